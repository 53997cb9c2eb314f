// Matrix products by cuBLASLt: the other variant of the bench, and the measure of what the GPU can do.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>

#include "bdh/base/dtype.h"

namespace bdh::bench {

/// One operand, row-major: element (i, j) at data[i * stride + j]. step: elements from one matrix of a batch
/// to the next; 0: all use the same.
struct Operand {
  const void* data;
  int64_t stride;
  bool transposed = false;
  int64_t step = 0;
};

/// C (m, n) = [relu] (A (m, k) B (k, n)) + beta C, `batch` times; sums in float32. transposed: A is stored as
/// (k, m), B as (n, k).
struct MatrixProduct {
  int64_t m, n, k;
  Operand a, b, c;                          // c.data is written
  DType in = DType::f32, out = DType::f32;  // of A and B, of C: f32, bf16 or f16
  float beta = 0;
  bool relu = false;
  int batch = 1;
};

class Blas {
 public:
  Blas();
  ~Blas();
  Blas(const Blas&) = delete;
  Blas& operator=(const Blas&) = delete;

  /// Queues the product. The first one of its sizes tries what cuBLASLt proposes, several times each, and
  /// keeps the fastest: C is then no result, and the stream must not be recording. Throws Error(unsupported)
  /// when cuBLASLt has no way to do it.
  void multiply(const MatrixProduct& product, cudaStream_t stream);
  /// "cuBLASLt 13.0.0"
  static std::string name();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace bdh::bench
