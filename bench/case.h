// A case: something that is timed, its name and the work it cannot do without. Knows Google Benchmark;
// nothing of models.
#pragma once

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace bdh::bench {

enum class Kind : uint8_t { limit, kernel, path, peer };

/// The least that one iteration must do.
struct Work {
  double bytes = 0;        // moved, each once
  double flops = 0;        // a multiplication and an addition are two
  double working_set = 0;  // bytes that come round again: they decide which cache's bandwidth is the limit
  double tokens = 0;       // read, by paths and peers
};

struct Case {
  Kind kind = Kind::kernel;
  std::string name{}, shape{}, dtype{};
  std::string isa{};  // of a kernel
  int threads = 1;
  double seconds = 0.02;             // least time of a repetition
  std::vector<std::string> peers{};  // names of what does a path's job elsewhere
  /// Times every iteration with time_each and says what one of them had to do.
  std::function<Work(benchmark::State&)> run{};

  /// "decode_at_512/default/f32/2_threads"
  std::string id() const;
};

/// A case's samples, one for each repetition, in seconds an iteration.
struct Result {
  Case of;
  Work work;
  std::vector<double> samples;
  std::string error;  // why there are none

  double median() const;
  /// Standard deviation over mean.
  double spread() const;
};

struct RunOptions {
  int repetitions = 5;
  std::function<void(const Case&)> progress;
};

/// Runs the cases, their repetitions shuffled among one another so that a disturbance strikes all alike.
/// A case that throws has an error for a result and stops nobody else.
std::vector<Result> run_cases(const std::vector<Case>& cases, const RunOptions& options);

template <class Body>
double seconds_of(Body&& body) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point start = Clock::now();
  body();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

template <class Body>
void time_each(benchmark::State& state, Body&& body) {
  while (state.KeepRunning()) state.SetIterationTime(seconds_of(body));
}

}  // namespace bdh::bench
