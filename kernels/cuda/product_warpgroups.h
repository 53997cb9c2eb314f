// The product of 16-bit matrices by warpgroups (wgmma m64n128k16, sm_90a): a tile of 128 x 128, two
// warpgroups of 64 x 128, both operands straight from three stages of shared memory.
//
// A stage of an operand is 16 KB in rows of 128 bytes; the 16-byte vectors of a row change places by the
// row's number (the 128-byte swizzle), so that neither the copies nor the tensor cores meet a bank twice:
//     along k:      128 rows of m, 64 numbers of k each; 8 rows, 1 KB, follow one another
//     along other:  two halves of m; each 64 rows of k, 64 numbers of m each
// Where the compiler has no wgmma the body is empty: the host does not start it there. Included by product.h.
#pragma once

#include "kernels/cuda/product.h"
#include "kernels/cuda/product_pipeline.h"

namespace bdh::cuda {

constexpr int kWarpgroup = 128;           // threads
constexpr int kSwizzledRow = 128;         // bytes
constexpr int kSwizzledGroup = 1024;      // bytes: eight rows
constexpr int kWarpgroupRows = 64;        // of C
constexpr int kWarpgroupDepth = 16;       // of one instruction
constexpr int kHalf = 64 * kSwizzledRow;  // bytes: half of a stage

template <class Element>
struct Tile<Element, Mma::warpgroup> {
  static constexpr int rows = 128, columns = 128, depth = 64, stages = 3;
  static constexpr int operand = rows * depth;  // elements of one stage of one operand
  static constexpr int alignment = 1024;        // bytes, of a stage
  static constexpr size_t shared = 2 * stages * operand * sizeof(Element) + alignment;
  template <class B>
  static constexpr size_t staging = staging_bytes<Element, B>(operand);

  /// Where the `vector`-th of an operand's tile lies in its stage.
  template <Along along>
  __device__ static int place(int vector) {
    constexpr int kVectors = (along == Along::k ? depth : rows) / kVector, kOfRow = kSwizzledRow / 16;
    const int row = vector / kVectors, column = vector % kVectors;
    return (column / kOfRow * kHalf + row * kSwizzledRow + ((column ^ row) % kOfRow) * 16) / 2;
  }
};

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
  using T = Tile<Element, Mma::warpgroup>;
  const int warpgroup = threadIdx.x / kWarpgroup, m = warpgroup * kWarpgroupRows;
  const Pipeline<T, a_along, b_along, Element, B> pipeline(a, b, m0, n0, k0, k1,
                                                           align_shared<T::alignment>(shared_memory()));
  float sum[kWarpgroupRows] = {};
  pipeline.run([] { show_to_tensor_cores(); },
               [&](const Element* a_stage, const Element* b_stage) {
                 warpgroup_begin();
#pragma unroll
                 for (int k = 0; k < T::depth; k += kWarpgroupDepth) {
                   warpgroup_multiply_add<a_along == Along::other, b_along == Along::other>(
                       sum, part_of_stage<a_along>(a_stage, m, k), part_of_stage<b_along>(b_stage, 0, k),
                       static_cast<const Element*>(nullptr));
                 }
                 warpgroup_wait();
               });
  const int lane = threadIdx.x % kWarp, row = m0 + m + threadIdx.x % kWarpgroup / kWarp * 16 + lane / 4;
#pragma unroll
  for (int i = 0; i < 2 * T::columns / 32; ++i) {
    float parts[4][2], eight[kVector];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float* pair = sum + (i / 2 * 4 + j) * 4 + i % 2 * 2;
      parts[j][0] = pair[0], parts[j][1] = pair[1];
    }
    gather_columns(parts, eight);
    store(row + i % 2 * 8, n0 + i / 2 * 32 + lane % 4 * kVector, eight);
  }
#endif
}

}  // namespace bdh::cuda
