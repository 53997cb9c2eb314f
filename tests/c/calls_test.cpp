// The C API, called at random: a short round of what tests/fuzz/c_api_fuzz.cpp does, from two threads that
// share a model.
#include <doctest/doctest.h>

#include <exception>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/c_api_calls.h"
#include "tests/support/soak.h"

namespace {

std::string failure_of_calls(const bdh_model* shared, int sequences, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<uint8_t> bytes(300);
  for (int i = 0; i < sequences; ++i) {
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    try {
      bdh::test::call_c_api(bytes, shared);
    } catch (const std::exception& failure) {
      return failure.what();
    }
  }
  return "";
}

}  // namespace

TEST_CASE("C API: random calls from two threads keep its promises") {
  const std::unique_ptr<bdh_model, decltype(&bdh_model_free)> shared(bdh::test::small_model_in_c(),
                                                                     bdh_model_free);
  const int sequences = bdh::test::rounds(100);
  std::string other;
  std::thread thread([&] { other = failure_of_calls(shared.get(), sequences, 2); });
  const std::string here = failure_of_calls(shared.get(), sequences, 1);
  thread.join();
  CHECK(here == "");
  CHECK(other == "");
}
