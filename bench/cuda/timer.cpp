// Graphs, events, and variants that take turns.
#include "bench/cuda/timer.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "bdh/base/error.h"
#include "bench/cuda/plain.h"

namespace bdh::bench {

namespace {

constexpr double kLongRound = 0.1;   // seconds of a round of all sets that is not worth waiting for
constexpr int64_t kHeadStart = 300;  // microseconds that the GPU waits while a sample is queued

}  // namespace

struct Timer::Ready {
  Result result;
  int iterations = 1;
  std::vector<float> output;
  std::optional<cuda::Graph> graph{};
};

// Seconds of what `start` queues. The GPU is kept waiting until all of it is queued.
double Timer::sample(const Family& family, const std::function<void()>& start) const {
  const cuda::Event before, after;
  if (family.restore) family.restore();
  wait_a_while(kHeadStart, stream_.get());
  before.record(stream_);
  start();
  after.record(stream_);
  stream_.wait();
  return after.seconds_since(before);
}

// Whole rounds of the sets, or, for what is slow, as many iterations as the time allows.
int Timer::iterations_for(const Family& family, const Variant& variant) const {
  const double one = std::max(sample(family, [&] { variant.queue(0); }), 1e-7);
  const auto wanted =
      static_cast<int>(std::clamp(std::ceil(seconds_ / one), 1.0, static_cast<double>(family.most)));
  if (one * family.sets > kLongRound) return wanted;
  const int rounds = (wanted + family.sets - 1) / family.sets;
  return std::max(family.sets, std::min(rounds * family.sets, family.most / family.sets * family.sets));
}

void Timer::prepare(const Family& family, const Variant& variant, Ready& ready) const {
  variant.queue(0);  // whatever is loaded, allocated or chosen at first use
  if (family.restore) family.restore();
  variant.queue(0);
  stream_.wait();
  if (family.output) ready.output = family.output();
  ready.iterations = iterations_for(family, variant);
  ready.graph.emplace(cuda::Graph::record(stream_, [&] {
    for (int i = 0; i < ready.iterations; ++i) variant.queue(i);
  }));
  sample(family, [&] { ready.graph->start(stream_); });
}

std::vector<Result> Timer::measure(const Family& family) const {
  std::vector<Ready> all(family.variants.size());
  const auto guarded = [&](size_t i, const std::function<void()>& act) {
    try {
      if (all[i].result.error.empty()) act();
    } catch (const std::exception& error) {
      all[i].result.error = error.what();
    }
  };
  for (size_t i = 0; i < all.size(); ++i) {
    all[i].result.of = family.of;
    all[i].result.of.variant = family.variants[i].name;
    all[i].result.work = family.work;
    guarded(i, [&] { prepare(family, family.variants[i], all[i]); });
  }
  for (int n = 0; n < samples_; ++n) {
    for (size_t i = 0; i < all.size(); ++i)
      guarded(i, [&] {
        const double seconds = sample(family, [&] { all[i].graph->start(stream_); });
        all[i].result.samples.push_back(seconds / all[i].iterations);
      });
  }
  std::vector<Result> results;
  for (Ready& one : all) {
    if (!one.result.error.empty()) one.result.samples.clear();
    one.result.details.emplace_back("iterations", one.iterations);
    if (family.output && &one != &all.front() && one.result.error.empty())
      one.result.details.emplace_back("differs", relative_difference(one.output, all.front().output));
    results.push_back(std::move(one.result));
  }
  return results;
}

double relative_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double apart = 0, norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    apart += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  if (!std::isfinite(apart) || !std::isfinite(norm)) return INFINITY;
  if (norm == 0) return apart == 0 ? 0 : 1;
  return std::sqrt(apart / norm);
}

}  // namespace bdh::bench
