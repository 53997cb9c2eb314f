// Timing cases on the CPU with Google Benchmark.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <vector>

#include "bench/case.h"
#include "bench/stopwatch.h"

namespace bdh::bench {

struct CpuCase {
  Case of;
  double seconds = 0.02;  // least time of a repetition
  /// Times every iteration with time_each and says what one of them had to do.
  std::function<Work(benchmark::State&)> run{};
};

struct RunOptions {
  int repetitions = 5;
  std::function<void(const Case&)> before{};  // called before each repetition; what it throws is its error
};

/// Runs the cases, their repetitions shuffled among one another so that a disturbance strikes all alike.
/// A case that throws has an error for a result and stops nobody else.
std::vector<Result> run_cases(const std::vector<CpuCase>& cases, const RunOptions& options);

template <class Body>
void time_each(benchmark::State& state, Body&& body) {
  while (state.KeepRunning()) state.SetIterationTime(seconds_of(body));
}

}  // namespace bdh::bench
