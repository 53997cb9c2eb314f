// The streams that a CPU's limits are measured with, for every width of vectors that this processor has.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "bdh/base/memory.h"
#include "bench/stream.h"

using namespace bdh;
using namespace bdh::bench;

namespace {

constexpr int64_t kBytes = 16384;  // in any first cache

std::shared_ptr<std::byte> numbers() {
  auto memory = allocate_zeroed(kBytes, "a test's numbers");
  for (int64_t i = 0; i < kBytes; ++i) memory.get()[i] = static_cast<std::byte>(i * 7);
  return memory;
}

uint64_t word_at(const std::byte* data, int64_t i) {
  uint64_t word;
  std::memcpy(&word, data + i * 8, sizeof word);
  return word;
}

}  // namespace

TEST_CASE("bench streams: every width reads and writes every word") {
  const auto memory = numbers();
  uint64_t sum = 0;
  for (int64_t i = 0; i < kBytes / 8; ++i) sum += word_at(memory.get(), i);
  REQUIRE(!streams().empty());
  for (const Stream& stream : streams()) {
    CAPTURE(stream.isa);
    CHECK(stream.read(memory.get(), kBytes, 1) == sum);
    CHECK(stream.read(memory.get(), kBytes, 3) == 3 * sum);
    CHECK(stream.read_parts(memory.get(), kBytes, 3) == 3 * sum);
    const auto written = numbers();
    stream.write(written.get(), kBytes, 3);
    for (int64_t i = 0; i < kBytes / 8; ++i) REQUIRE(word_at(written.get(), i) == 2);
  }
}
