// Stands in for cuBLASLt where the bench runs on the emulator: the same products with plain loops. As the
// real one does when it chooses an algorithm, the first product of its sizes writes C more often than once.
#include "bench/cuda/blas.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <vector>

#include "bdh/base/error.h"
#include "kernels/cuda/runtime.h"

namespace bdh::bench {

namespace {

float at(const Operand& operand, DType dtype, int64_t row, int64_t column, int64_t matrix) {
  if (operand.transposed) std::swap(row, column);
  const int64_t index = matrix * operand.step + row * operand.stride + column;
  float value = 0;
  convert(dtype, static_cast<const std::byte*>(operand.data) + index * static_cast<int64_t>(size_of(dtype)),
          DType::f32, &value, 1);
  return value;
}

void multiply_now(const MatrixProduct& p) {
  for (int64_t matrix = 0; matrix < p.batch; ++matrix) {
    for (int64_t i = 0; i < p.m; ++i) {
      for (int64_t j = 0; j < p.n; ++j) {
        float sum = p.beta == 0 ? 0 : p.beta * at(p.c, p.out, i, j, matrix);
        for (int64_t k = 0; k < p.k; ++k) sum += at(p.a, p.in, i, k, matrix) * at(p.b, p.in, k, j, matrix);
        if (p.relu) sum = std::max(sum, 0.0f);
        const int64_t index = matrix * p.c.step + i * p.c.stride + j;
        convert(DType::f32, &sum, p.out,
                static_cast<std::byte*>(const_cast<void*>(p.c.data)) +
                    index * static_cast<int64_t>(size_of(p.out)),
                1);
      }
    }
  }
}

using Sizes = std::tuple<int64_t, int64_t, int64_t, float, int>;

}  // namespace

struct Blas::Parts {
  std::set<Sizes> seen;
};

Blas::Blas() : parts_(std::make_unique<Parts>()) {}
Blas::~Blas() = default;

void Blas::multiply(const MatrixProduct& product, cudaStream_t stream) {
  const int times =
      parts_->seen.insert({product.m, product.n, product.k, product.beta, product.batch}).second ? 2 : 1;
  for (int i = 0; i < times; ++i) {
    cuda::check(emulation::launch("multiply", nullptr, dim3(1), dim3(1), 0, stream,
                                  [product] { multiply_now(product); }),
                "a product");
  }
}

std::string Blas::name() { return "plain loops"; }

}  // namespace bdh::bench
