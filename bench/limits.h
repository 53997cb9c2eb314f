// What the machine can do at best: reading bytes from each level of memory, and multiplying matrices with
// OpenBLAS. Knows nothing of the model but the shape of its products.
#pragma once

#include <string>
#include <vector>

#include "bench/case.h"
#include "bench/machine.h"

namespace bdh::bench {

std::vector<Case> limit_cases(const Machine& machine);

/// The name of the limit on flops; it also stands in Bound::by.
constexpr const char* kSgemm = "sgemm";

/// "OpenBLAS 0.3.21 ... SkylakeX"
std::string openblas_description();

/// The least time some work can take, and why.
struct Bound {
  double seconds = 0;  // 0: unknown
  std::string by;      // "read L3", "sgemm"
};

/// The limits that were measured.
class Limits {
 public:
  Limits(Machine machine, const std::vector<Result>& results);

  /// The longer of bytes over bandwidth, at the level its working set fits in, and flops over the fastest
  /// sgemm.
  Bound bound(const Work& work, int threads) const;

 private:
  double rate(const std::string& name, const std::string& shape, int threads) const;
  Machine machine_;
  const std::vector<Result>& results_;
};

}  // namespace bdh::bench
