// Running cases under Google Benchmark and keeping every repetition's time.
#include "bench/case.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

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
  std::vector<std::string> flags{"bdh_bench", "--benchmark_enable_random_interleaving=true",
                                 concat("--benchmark_repetitions=", repetitions)};
  std::vector<char*> arguments;
  for (std::string& flag : flags) arguments.push_back(flag.data());
  auto count = static_cast<int>(arguments.size());
  benchmark::Initialize(&count, arguments.data());
}

void run_one(Result& result, const RunOptions& options, benchmark::State& state) {
  if (options.progress) options.progress(result.of);
  try {
    result.work = result.of.run(state);
  } catch (const std::exception& error) {
    result.error = error.what();
    state.SkipWithError("failed");
  }
}

}  // namespace

std::string Case::id() const {
  std::string id = name;
  for (const std::string* part : {&shape, &dtype, &isa}) {
    if (!part->empty()) id += "/" + *part;
  }
  id += concat("/", threads, threads == 1 ? " thread" : " threads");
  std::replace(id.begin(), id.end(), ' ', '_');
  return id;
}

double Result::median() const {
  std::vector<double> sorted = samples;
  std::sort(sorted.begin(), sorted.end());
  const size_t half = sorted.size() / 2;
  if (sorted.empty()) return 0;
  return sorted.size() % 2 == 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

double Result::spread() const {
  if (samples.size() < 2) return 0;
  const auto count = static_cast<double>(samples.size());
  const double mean = std::accumulate(samples.begin(), samples.end(), 0.0) / count;
  double squares = 0;
  for (const double sample : samples) squares += (sample - mean) * (sample - mean);
  return std::sqrt(squares / (count - 1)) / mean;
}

std::vector<Result> run_cases(const std::vector<Case>& cases, const RunOptions& options) {
  std::vector<Result> results;
  for (const Case& one : cases) results.push_back({one, {}, {}, {}});
  initialize(options.repetitions);
  for (Result& result : results) {
    benchmark::RegisterBenchmark(result.of.id().c_str(),
                                 [&](benchmark::State& state) { run_one(result, options, state); })
        ->MinTime(result.of.seconds)
        ->UseManualTime();
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
