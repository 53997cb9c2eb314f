// The product of 16-bit matrices by warpgroups (wgmma m64n128k16, sm_90a): a tile of 128 x 128, two
// warpgroups of 64 x 128, both operands straight from shared memory, three stages that asynchronous copies
// fill ahead.
//
// A stage of an operand is 16 KB in rows of 128 bytes; the 16-byte vectors of a row change places by the
// row's number (the 128-byte swizzle), so that neither the copies nor the tensor cores meet a bank twice:
//     along k:      128 rows of m, 64 numbers of k each; 8 rows, 1 KB, follow one another
//     along other:  two halves of m; each 64 rows of k, 64 numbers of m each
// Where the compiler has no wgmma the body is empty: the host does not start it there. Included by product.h.
#pragma once

#include "kernels/cuda/product.h"

namespace bdh::cuda {

template <class Element>
struct Tile<Element, Unit::warpgroups> {
  static constexpr int rows = 128, columns = 128, depth = 64, stages = 3;
  static constexpr int operand = rows * depth;  // elements of one stage of one operand
  static constexpr int alignment = 1024;        // bytes, of a stage
  static constexpr size_t shared = 2 * stages * operand * sizeof(Element) + alignment;
};

constexpr int kWarpgroup = 128;           // threads
constexpr int kSwizzledRow = 128;         // bytes
constexpr int kSwizzledGroup = 1024;      // bytes: eight rows
constexpr int kWarpgroupRows = 64;        // of C
constexpr int kWarpgroupDepth = 16;       // of one instruction
constexpr int kHalf = 64 * kSwizzledRow;  // bytes: half of a stage

// Where vector `vector` of a stage's stored row lies, in elements.
__device__ inline int swizzled(int stored, int vector) {
  constexpr int kVectors = kSwizzledRow / 16;
  return (vector / kVectors * kHalf + stored * kSwizzledRow + ((vector ^ stored) % kVectors) * 16) / 2;
}

template <Along along, class Element, class From>
__device__ inline void fill_swizzled(const Matrix<From>& from, int m0, int k0, int k1, Element* stage) {
  using T = Tile<Element, Unit::warpgroups>;
  constexpr int kVectors = (along == Along::k ? T::depth : T::rows) / kVector;
  for (int i = threadIdx.x; i < T::operand / kVector; i += kProductThreads) {
    const int stored = i / kVectors, vector = i % kVectors;
    bring_vector(from, VectorPlace<along>(from, m0, k0, k1, stored, vector),
                 stage + swizzled(stored, vector));
  }
}

// The part of a stage that one instruction reads: from row `m` (0 or 64) and from `k` on.
template <Along along, class Element>
__device__ inline uint64_t part_of_stage(const Element* stage, int m, int k) {
  const int bytes = along == Along::k ? m * kSwizzledRow + k * 2 : m / 64 * kHalf + k * kSwizzledRow;
  return swizzled_matrix(stage + bytes / 2, kHalf, kSwizzledGroup);
}

template <Along a_along, Along b_along, class Element, class B, class Store>
__device__ inline void product_by_warpgroups(const Matrix<Element>& a, const Matrix<B>& b, int m0, int n0,
                                             int k0, int k1, Store&& store) {
#ifdef BDH_WARPGROUPS
  using T = Tile<Element, Unit::warpgroups>;
  auto* a_stages = reinterpret_cast<Element*>(align_shared<T::alignment>(shared_memory()));
  Element* b_stages = a_stages + T::stages * T::operand;
  const int warpgroup = threadIdx.x / kWarpgroup, m = warpgroup * kWarpgroupRows;
  const int steps = (k1 - k0 + T::depth - 1) / T::depth;
  const auto fill = [&](int step) {
    if (step < steps) {
      const int stage = step % T::stages * T::operand, k = k0 + step * T::depth;
      fill_swizzled<a_along>(a, m0, k, k1, a_stages + stage);
      fill_swizzled<b_along>(b, n0, k, k1, b_stages + stage);
    }
    copy_async_commit();
  };
  float sum[kWarpgroupRows] = {};
  for (int step = 0; step < T::stages - 1; ++step) fill(step);
  for (int step = 0; step < steps; ++step) {
    copy_async_wait<T::stages - 2>();
    show_to_tensor_cores();
    __syncthreads();
    fill(step + T::stages - 1);
    const int stage = step % T::stages * T::operand;
    warpgroup_begin();
#pragma unroll
    for (int k = 0; k < T::depth; k += kWarpgroupDepth) {
      warpgroup_multiply_add<a_along == Along::other, b_along == Along::other>(
          sum, part_of_stage<a_along>(a_stages + stage, m, k), part_of_stage<b_along>(b_stages + stage, 0, k),
          static_cast<const Element*>(nullptr));
    }
    warpgroup_wait();
  }
  copy_async_wait<0>();
  const int lane = threadIdx.x % kWarp, row = m0 + m + threadIdx.x % kWarpgroup / kWarp * 16 + lane / 4;
#pragma unroll
  for (int j = 0; j < T::columns / 8; ++j) {
    const int column = n0 + j * 8 + lane % 4 * 2;
    store(row, column, sum[4 * j], sum[4 * j + 1]);
    store(row + 8, column, sum[4 * j + 2], sum[4 * j + 3]);
  }
#endif
}

}  // namespace bdh::cuda
