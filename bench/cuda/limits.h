// What the GPU can do at best: copying and reading its memory, reading its second-level cache, products of
// large matrices.
#pragma once

#include <vector>

#include "bench/case.h"
#include "bench/cuda/blas.h"
#include "bench/cuda/timer.h"

namespace bdh::bench {

/// How large; a test has less.
struct LimitSizes {
  int64_t memory = int64_t{1} << 30;  // bytes read, and copied
  int64_t cache = int64_t{16} << 20;  // bytes that stay in the second-level cache
  int cache_rounds = 64;
  int64_t square = 8192;        // of 16-bit elements
  int64_t square_float = 4096;  // of float32
  int64_t rows = 4096;          // of the model's products: tokens
  int64_t neurons = 32768, width = 256;
  bool halves = false;  // float16 besides bfloat16
};

/// Measures them all.
std::vector<Result> measure_limits(const Timer& timer, const cuda::Stream& stream, Blas& blas,
                                   const LimitSizes& sizes);

/// The limits that were measured.
class GpuLimits {
 public:
  explicit GpuLimits(const std::vector<Result>& results);

  /// The longest of: bytes over memory bandwidth, all bytes over the cache's, and flops over the fastest
  /// product of that dtype.
  Bound bound(const Work& work, const std::string& dtype) const;
  const std::vector<Roof>& roofs() const { return roofs_; }

 private:
  double rate(const std::string& name) const;
  std::vector<Roof> roofs_;
};

}  // namespace bdh::bench
