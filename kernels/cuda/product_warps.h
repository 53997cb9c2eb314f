// The product of 16-bit matrices by warps (mma.sync m16n8k16): a tile of 128 x 128, eight warps of 64 x 32,
// operands through three stages of shared memory. Rows of a stage are padded by 16 bytes, so that the eight
// rows that ldmatrix reads at once lie in different banks. Included by product.h.
#pragma once

#include "kernels/cuda/product.h"
#include "kernels/cuda/product_pipeline.h"

namespace bdh::cuda {

template <class Element>
struct Tile<Element, Mma::warp> {
  static constexpr int rows = 128, columns = 128, depth = 32, stages = 3;
  static constexpr int pitch_k = depth + 8, pitch_other = rows + 8;
  static constexpr int operand = rows * pitch_k;  // elements of one stage of one operand, in either order
  static constexpr size_t shared = 2 * stages * operand * sizeof(Element);
  template <class B>
  static constexpr size_t staging = staging_bytes<Element, B>(rows* depth);
  static_assert(rows == columns && depth * pitch_other <= operand);

  /// Where the `vector`-th of an operand's tile lies in its stage.
  template <Along along>
  __device__ static int place(int vector) {
    constexpr int kVectors = (along == Along::k ? depth : rows) / kVector;
    return vector / kVectors * (along == Along::k ? pitch_k : pitch_other) + vector % kVectors * kVector;
  }
};

__device__ inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                    const __nv_bfloat16*) {
  mma_bf16(d, a, b);
}
__device__ inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                    const __half*) {
  mma_f16(d, a, b);
}

// A's fragment (16, 16) at (m, k) of a stage.
template <Along along, class Element>
__device__ inline void load_a(uint32_t (&r)[4], const Element* stage, int m, int k, int lane) {
  if constexpr (along == Along::k) {
    load_matrix_x4(r, stage + (m + lane % 16) * Tile<Element, Mma::warp>::pitch_k + k + lane / 16 * 8);
  } else {
    load_matrix_x4_transposed(r, stage +
                                     (k + lane % 8 + lane / 16 * 8) * Tile<Element, Mma::warp>::pitch_other +
                                     m + lane / 8 % 2 * 8);
  }
}

// B's fragments (16, 8) at (k, n) and (k, n + 8).
template <Along along, class Element>
__device__ inline void load_b(uint32_t (&r)[4], const Element* stage, int n, int k, int lane) {
  if constexpr (along == Along::k) {
    load_matrix_x4(
        r, stage + (n + lane % 8 + lane / 16 * 8) * Tile<Element, Mma::warp>::pitch_k + k + lane / 8 % 2 * 8);
  } else {
    load_matrix_x4_transposed(
        r, stage + (k + lane % 16) * Tile<Element, Mma::warp>::pitch_other + n + lane / 16 * 8);
  }
}

constexpr int kWarpRows = 64, kWarpColumns = 32;  // of C, to a warp
constexpr int kMmaRows = 16, kMmaColumns = 8, kMmaDepth = 16;

using WarpSums = float[kWarpRows / kMmaRows][kWarpColumns / kMmaColumns][4];

template <Along a_along, Along b_along, class Element>
__device__ inline void multiply_stage(const Element* a, const Element* b, int m, int n, int lane,
                                      WarpSums& sum) {
#pragma unroll
  for (int k = 0; k < Tile<Element, Mma::warp>::depth; k += kMmaDepth) {
    uint32_t a_part[kWarpRows / kMmaRows][4], b_part[kWarpColumns / kMmaColumns][2];
#pragma unroll
    for (int i = 0; i < kWarpRows / kMmaRows; ++i) load_a<a_along>(a_part[i], a, m + i * kMmaRows, k, lane);
#pragma unroll
    for (int j = 0; j < kWarpColumns / kMmaColumns; j += 2) {
      uint32_t both[4];
      load_b<b_along>(both, b, n + j * kMmaColumns, k, lane);
      b_part[j][0] = both[0], b_part[j][1] = both[1], b_part[j + 1][0] = both[2], b_part[j + 1][1] = both[3];
    }
#pragma unroll
    for (int i = 0; i < kWarpRows / kMmaRows; ++i) {
#pragma unroll
      for (int j = 0; j < kWarpColumns / kMmaColumns; ++j)
        multiply_add(sum[i][j], a_part[i], b_part[j], static_cast<const Element*>(nullptr));
    }
  }
}

template <Along a_along, Along b_along, class Element, class B, class Store>
__device__ inline void product_by_warps(const Matrix<Element>& a, const Matrix<B>& b, int m0, int n0, int k0,
                                        int k1, Store&& store) {
  using T = Tile<Element, Mma::warp>;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int m = warp / 4 * kWarpRows, n = warp % 4 * kWarpColumns;
  const Pipeline<T, a_along, b_along, Element, B> pipeline(a, b, m0, n0, k0, k1, shared_memory());
  WarpSums sum = {};
  pipeline.run([] {},
               [&](const Element* a_stage, const Element* b_stage) {
                 multiply_stage<a_along, b_along>(a_stage, b_stage, m, n, lane, sum);
               });
  static_assert(kWarpColumns == 4 * kMmaColumns);
#pragma unroll
  for (int i = 0; i < 2 * kWarpRows / kMmaRows; ++i) {
    float parts[4][2], eight[kVector];
#pragma unroll
    for (int j = 0; j < 4; ++j)
      parts[j][0] = sum[i / 2][j][i % 2 * 2], parts[j][1] = sum[i / 2][j][i % 2 * 2 + 1];
    gather_columns(parts, eight);
    store(m0 + m + i * 8 + lane / 4, n0 + n + lane % 4 * kVector, eight);
  }
}

template <Mma mma, Along a_along, Along b_along, class Element, class B, class Store>
__device__ inline void product(const Matrix<Element>& a, const Matrix<B>& b, int m0, int n0, int k0, int k1,
                               Store&& store) {
  if constexpr (mma == Mma::warp) {
    product_by_warps<a_along, b_along>(a, b, m0, n0, k0, k1, store);
  } else {
    product_by_warpgroups<a_along, b_along>(a, b, m0, n0, k0, k1, store);
  }
}

}  // namespace bdh::cuda
