// One tile of a matrix product, by a block: C (m, n) = sum over k of A (m, k) B (k, n), float32 sums, handed
// to the caller in pairs of adjacent columns, so that what follows a product is done where its numbers are.
// Device code; knows matrices alone. What all units share; each stands in a file of its own:
//
//     product_float.h        float, on the ordinary units; the referee of the others
//     product_warps.h        16-bit elements, mma.sync: sm_80 and later
//     product_warpgroups.h   16-bit elements, wgmma: sm_90a
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/cuda/ptx.h"

namespace bdh::cuda {

/// Row-major; outside [0, rows) x [0, columns) it reads as zero. For 16-bit elements data is aligned to 16
/// bytes, and stride and columns are multiples of 8.
template <class Element>
struct Matrix {
  const Element* data;
  int64_t stride;
  int rows, columns;
};

/// Which index runs along a stored row of an operand: k (A as (m, k), B as (n, k)) or the other (A as (k, m),
/// B as (k, n)).
enum class Along { k, other };

constexpr int kProductThreads = 256;

/// Sizes of a block's tile: rows, columns, depth, and the bytes of shared memory.
template <class Element, Unit unit>
struct Tile;

/// Where a vector of 8 elements of an operand's tile stands in its matrix.
template <Along along>
struct VectorPlace {
  int row, column;
  bool inside;

  /// The `vector`-th of the tile's stored row `stored`; the tile begins at (m0, k0), the sum ends before k1.
  template <class Element>
  __device__ VectorPlace(const Matrix<Element>& from, int m0, int k0, int k1, int stored, int vector)
      : row(stored + (along == Along::k ? m0 : k0)),
        column(vector * kVector + (along == Along::k ? k0 : m0)),
        inside(row < from.rows && column < from.columns && (along == Along::k ? column : row) < k1) {}
};

/// Starts bringing the vector to shared memory: copied asynchronously, or rounded from float32 on the way.
template <Along along, class Element>
__device__ inline void bring_vector(const Matrix<Element>& from, const VectorPlace<along>& at, Element* to) {
  copy_async_16(to, at.inside ? from.data + at.row * from.stride + at.column : from.data, at.inside);
}

template <Along along, class Element>
__device__ inline void bring_vector(const Matrix<float>& from, const VectorPlace<along>& at, Element* to) {
  float value[kVector] = {};
  if (at.inside) load_vector(from.data + at.row * from.stride + at.column, value);
  Element rounded[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) rounded[i] = from_float<Element>(value[i]);
  uint4 bits;
  __builtin_memcpy(&bits, rounded, sizeof bits);
  *reinterpret_cast<uint4*>(to) = bits;
}

/// Two adjacent elements; `to` is aligned to both.
__device__ inline void store_pair(float* to, float first, float second) {
  *reinterpret_cast<float2*>(to) = make_float2(first, second);
}
__device__ inline void store_pair(__nv_bfloat16* to, float first, float second) {
  *reinterpret_cast<__nv_bfloat162*>(to) = __floats2bfloat162_rn(first, second);
}
__device__ inline void store_pair(__half* to, float first, float second) {
  *reinterpret_cast<__half2*>(to) = __floats2half2_rn(first, second);
}

/// Tiles of `size` that cover `count`.
constexpr unsigned tiles(int64_t count, int size) { return static_cast<unsigned>((count + size - 1) / size); }

}  // namespace bdh::cuda

#include "kernels/cuda/product_float.h"
#include "kernels/cuda/product_warpgroups.h"
#include "kernels/cuda/product_warps.h"
