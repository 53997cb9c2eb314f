// Time on the wall.
#pragma once

#include <chrono>

namespace bdh::bench {

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point start_ = Clock::now();
};

template <class Body>
double seconds_of(Body&& body) {
  const Stopwatch since;
  body();
  return since.seconds();
}

}  // namespace bdh::bench
