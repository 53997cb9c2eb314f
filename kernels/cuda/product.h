// One tile of a matrix product, by a block: C (m, n) = sum over k of A (m, k) B (k, n), float32 sums, handed
// to the caller as store(row, column, sums) in vectors of eight adjacent columns, so that what follows a
// product is done where its numbers are, and is stored whole.
// Device code. What all products share; each stands in a file of its own:
//
//     product_float.h        float32, by fused multiply-adds; the reference of the others
//     product_warps.h        16-bit elements, mma.sync: sm_80 and later
//     product_warpgroups.h   16-bit elements, wgmma: sm_90a
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/weight_rows.h"

namespace bdh::cuda {

/// Row-major; outside [0, rows) x [0, columns) it reads as zero. For 16-bit elements data is aligned to 16
/// bytes, and stride and columns are multiples of 8.
template <class Element>
struct Matrix {
  const Element* data;
  int64_t stride;
  int rows, columns;

  __device__ float number(int row, int column) const { return to_float(data[row * stride + column]); }
};

/// Of quantized weights.
template <class Eight>
requires kQuantized<Eight>
struct Matrix<Eight> {
  WeightRows<Eight> weights;
  int rows, columns;

  __device__ float number(int row, int column) const { return weights.number(row, column); }
};

/// The first rows of weights.
template <class Element>
__device__ inline Matrix<Element> matrix_of(const WeightRows<Element>& weights, int rows, int columns) {
  if constexpr (kQuantized<Element>) {
    return {weights, rows, columns};
  } else {
    return {weights.data, weights.stride, rows, columns};
  }
}

/// Which index runs along a stored row of an operand: k (A as (m, k), B as (n, k)) or the other (A as (k, m),
/// B as (k, n)).
enum class Along { k, other };

constexpr int kProductThreads = 256;

/// Blocks that share a multiprocessor, so that one multiplies while the other stores what follows: registers
/// are chosen for it.
constexpr int kProductBlocks = 2;

/// Sizes of a block's tile: rows, columns, depth, and the bytes of shared memory; `staging<B>` more of them
/// where B is not stored as A is (product_pipeline.h).
template <class Element, Mma mma>
struct Tile;

/// A quad of lanes holds four groups of eight adjacent columns, lane q the columns 2 q and 2 q + 1 of each.
/// Lane q is left with group q whole.
__device__ inline void gather_columns(const float (&parts)[4][2], float (&group)[kVector]) {
  const bool odd = threadIdx.x & 1, upper = threadIdx.x & 2;
  float halves[2][4];  // of groups (lane & 1) and 2 + (lane & 1): four columns
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float even_group = parts[2 * half][i], odd_group = parts[2 * half + 1][i];
      const float got = __shfl_xor_sync(kAllLanes, odd ? even_group : odd_group, 1);
      halves[half][i] = odd ? got : even_group;
      halves[half][2 + i] = odd ? odd_group : got;
    }
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float got = __shfl_xor_sync(kAllLanes, upper ? halves[0][i] : halves[1][i], 2);
    group[i] = upper ? got : halves[0][i];
    group[4 + i] = upper ? halves[1][i] : got;
  }
}

/// Tiles of `size` that cover `count`.
constexpr unsigned tiles(int64_t count, int size) { return static_cast<unsigned>((count + size - 1) / size); }

}  // namespace bdh::cuda

#include "kernels/cuda/product_float.h"
#include "kernels/cuda/product_pipeline.h"
#include "kernels/cuda/product_warpgroups.h"
#include "kernels/cuda/product_warps.h"
