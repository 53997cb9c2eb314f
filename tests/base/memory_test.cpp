// Zeroed memory, its limits and how sizes are written.
#include "bdh/base/memory.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>

#include "tests/support/thrown.h"

using namespace bdh;

TEST_CASE("memory: zeroed and aligned, small and large") {
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{100}, size_t{4} << 20, (size_t{20} << 20) + 3}) {
    const auto memory = allocate_zeroed(bytes, "a test");
    REQUIRE(memory != nullptr);
    CHECK(reinterpret_cast<uintptr_t>(memory.get()) % 64 == 0);
    CHECK(std::all_of(memory.get(), memory.get() + bytes, [](std::byte b) { return b == std::byte{0}; }));
    std::fill(memory.get(), memory.get() + bytes, std::byte{1});
  }
}

TEST_CASE("memory: pages given back are zeros, and what lies around them stays") {
  const size_t bytes = size_t{6} << 20, begin = (size_t{1} << 20) + 3, end = size_t{5} << 20;
  const auto memory = allocate_zeroed(bytes, "a test");
  std::fill_n(memory.get(), bytes, std::byte{1});
  release_pages({memory.get() + begin, end - begin});
  const auto first =
      static_cast<size_t>(std::find(memory.get(), memory.get() + bytes, std::byte{0}) - memory.get());
  CHECK(first > begin);
  CHECK(first - begin < size_t{1} << 16);
  CHECK(std::count(memory.get(), memory.get() + bytes, std::byte{1}) ==
        static_cast<int64_t>(first + bytes - end));
}

TEST_CASE("memory: more than there is is refused in words") {
  const auto thrown = test::thrown_by([] { allocate_zeroed(size_t{1} << 60, "the state of 7 sessions"); });
  CHECK(thrown.kind == ErrorKind::out_of_memory);
  CHECK(thrown.says("the state of 7 sessions"));
  CHECK(thrown.says("needs 1.2 EB"));
  CHECK(test::thrown_by([] { allocate_zeroed(SIZE_MAX, "all"); }).kind == ErrorKind::out_of_memory);
}

TEST_CASE("memory: the address space limit counts") {
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_AS, &before) == 0);
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  REQUIRE(pages > 0);
  constexpr size_t kMore = size_t{64} << 20;
  rlimit limited = before;
  limited.rlim_cur = pages * static_cast<size_t>(sysconf(_SC_PAGESIZE)) + kMore;
  REQUIRE(setrlimit(RLIMIT_AS, &limited) == 0);
  const size_t available = available_memory();
  const auto thrown = test::thrown_by([] { allocate_zeroed(2 * kMore, "twice as much"); });
  setrlimit(RLIMIT_AS, &before);
  CHECK(available <= kMore);
  CHECK(thrown.kind == ErrorKind::out_of_memory);
  CHECK(thrown.says("needs 134.2 MB"));
  const size_t at = thrown.message.find("available ");
  REQUIRE(at != std::string::npos);
  const double told = std::stod(thrown.message.substr(at + std::string_view("available ").size()));
  CHECK(told > 0);
  CHECK(told <= 67.1);
  CHECK(available_memory() > kMore);
}

TEST_CASE("memory: sizes in words") {
  CHECK(format_bytes(0) == "0 B");
  CHECK(format_bytes(999) == "999 B");
  CHECK(format_bytes(1000) == "1.0 kB");
  CHECK(format_bytes(25'300'000) == "25.3 MB");
  CHECK(format_bytes(999'949) == "999.9 kB");
  CHECK(format_bytes(999'950) == "1.0 MB");
  CHECK(format_bytes(SIZE_MAX) == "18.4 EB");
}
