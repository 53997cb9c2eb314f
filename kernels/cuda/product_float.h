// The product of float32 matrices, by fused multiply-adds: a tile of 64 x 64, 2 x 8 sums to a thread.
// Included by product.h.
#pragma once

#include "kernels/cuda/product.h"

namespace bdh::cuda {

template <>
struct Tile<float, Mma::warp> {
  static constexpr int rows = 64, columns = 64, depth = 16, pitch = rows + 4;
  static constexpr size_t shared = 2 * depth * pitch * sizeof(float);
  template <class>
  static constexpr size_t staging = 0;
};

// Puts (k, m) of an operand's tile into shared memory as (depth, pitch).
template <Along along, class Element>
__device__ inline void load_tile(const Matrix<Element>& from, int m0, int k0, int k1, float* to) {
  using T = Tile<float, Mma::warp>;
  for (int i = threadIdx.x; i < T::depth * T::rows; i += kProductThreads) {
    const int k = along == Along::k ? i % T::depth : i / T::rows,
              m = along == Along::k ? i / T::depth : i % T::rows;
    const int row = along == Along::k ? m0 + m : k0 + k, column = along == Along::k ? k0 + k : m0 + m;
    const bool inside = k0 + k < k1 && row < from.rows && column < from.columns;
    to[k * T::pitch + m] = inside ? from.number(row, column) : 0.0f;
  }
}

template <Mma, Along a_along, Along b_along, class B, class Store>
__device__ inline void product(const Matrix<float>& a, const Matrix<B>& b, int m0, int n0, int k0, int k1,
                               Store&& store) {
  using T = Tile<float, Mma::warp>;
  auto* a_tile = reinterpret_cast<float*>(shared_memory());
  float* b_tile = a_tile + T::depth * T::pitch;
  const int m = threadIdx.x / 8 * 2, n = threadIdx.x % 8 * kVector;
  float sum[2][kVector] = {};
  for (; k0 < k1; k0 += T::depth) {
    load_tile<a_along>(a, m0, k0, k1, a_tile);
    load_tile<b_along>(b, n0, k0, k1, b_tile);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < T::depth; ++k) {
      float row[kVector];
      load_vector(b_tile + k * T::pitch + n, row);
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < kVector; ++j) sum[i][j] = fmaf(a_tile[k * T::pitch + m + i], row[j], sum[i][j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) store(m0 + m + i, n0 + n, sum[i]);
}

}  // namespace bdh::cuda
