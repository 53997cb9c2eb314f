// Tests that last as long as one likes: BDH_SOAK=N makes them N times as long (make soak).
#pragma once

#include <cstdlib>

namespace bdh::test {

inline int rounds(int count) {
  const char* times = std::getenv("BDH_SOAK");
  return times ? count * std::atoi(times) : count;
}

}  // namespace bdh::test
