// Timing work on a GPU: the ways to do the same work (variants) recorded as graphs, run in turn, timed with
// events.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bench/case.h"
#include "kernels/cuda/runtime.h"

namespace bdh::bench {

/// One way to do a family's work.
struct Variant {
  std::string name;
  /// Queues iteration i on the timer's stream. Iterations below Family::sets use different memory.
  std::function<void(int i)> queue;
};

/// Work, and the ways to do it on the same inputs.
struct Family {
  Case of;  // its variant is the name of one of `variants`
  Work work{};
  int sets = 1;       // iterations before memory is used again
  int most = 1 << 9;  // iterations in a graph
  /// Queues what puts inputs back that variants change. Called before each sample, not timed.
  std::function<void()> restore{};
  /// Some numbers that iteration 0 wrote, the stream being idle; variants are compared by them. Empty: they
  /// are not.
  std::function<std::vector<float>()> output{};
  std::vector<Variant> variants{};
};

class Timer {
 public:
  /// samples: of each variant. seconds: least time of a sample's work, as far as Family::most allows.
  Timer(const cuda::Stream& stream, int samples, double seconds)
      : stream_(stream), samples_(samples), seconds_(seconds) {}

  /// A result for each variant; one that fails has an error. Results say in `differs` how far their output
  /// lies from the first variant's (norm of the difference over norm), and how many `iterations` a sample
  /// has.
  std::vector<Result> measure(const Family& family) const;

 private:
  struct Ready;
  void prepare(const Family& family, const Variant& variant, Ready& ready) const;
  int iterations_for(const Family& family, const Variant& variant) const;
  double sample(const Family& family, const std::function<void()>& start) const;

  const cuda::Stream& stream_;
  int samples_;
  double seconds_;
};

/// norm(a - b) / norm(b); 1 where b is zero and a is not, infinite where sizes differ or a number is not
/// finite.
double relative_difference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace bdh::bench
