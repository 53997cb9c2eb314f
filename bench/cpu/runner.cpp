// Running cases under Google Benchmark and keeping every repetition's time.
#include "bench/cpu/runner.h"

#include <map>

#include "bdh/base/error.h"

namespace bdh::bench {

namespace {

// Keeps the seconds an iteration of each repetition, by benchmark name.
class Keeper : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration || run.iterations == 0) continue;
      samples[run.run_name.function_name].push_back(run.real_accumulated_time /
                                                    static_cast<double>(run.iterations));
    }
  }
  std::map<std::string, std::vector<double>> samples;
};

void initialize(int repetitions) {
  std::vector<std::string> flags{"bdh-bench", "--benchmark_enable_random_interleaving=true",
                                 concat("--benchmark_repetitions=", repetitions)};
  std::vector<char*> arguments;
  for (std::string& flag : flags) arguments.push_back(flag.data());
  auto count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
}

void run_one(const CpuCase& one, Result& result, const RunOptions& options, benchmark::State& state) {
  try {
    if (options.before) options.before(one.of);
    result.work = one.run(state);
  } catch (const std::exception& error) {
    result.error = error.what();
    state.SkipWithError("failed");
  }
}

}  // namespace

std::vector<Result> run_cases(const std::vector<CpuCase>& cases, const RunOptions& options) {
  std::vector<Result> results;
  for (const CpuCase& one : cases) results.push_back({one.of, {}, {}, {}, {}});
  initialize(options.repetitions);
  for (size_t i = 0; i < cases.size(); ++i) {
    const auto run = [&cases, &results, &options, i](benchmark::State& state) {
      run_one(cases[i], results[i], options, state);
    };
    benchmark::RegisterBenchmark(cases[i].of.id().c_str(), run)->MinTime(cases[i].seconds)->UseManualTime();
  }
  Keeper keeper;
  benchmark::RunSpecifiedBenchmarks(&keeper);
  benchmark::ClearRegisteredBenchmarks();
  for (Result& result : results) {
    if (result.error.empty()) result.samples = keeper.samples[result.of.id()];
  }
  return results;
}

}  // namespace bdh::bench
