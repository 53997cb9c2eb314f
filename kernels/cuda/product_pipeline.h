// The way of a product's operands from global to shared memory: a software pipeline, as in CUTLASS. Included
// by product.h.
//
// The sum over k is cut into tiles of T::depth. Shared memory holds T::stages of them at a time; asynchronous
// copies (cp.async) fill a stage while the tensor cores multiply another:
//
//     stage(0) stage(1)                          T::stages - 1 tiles are on their way at first
//     for every tile: wait until it is there     then one is multiplied and one more is staged
//                     stage(tile + T::stages - 1)
//                     multiply(tile)
//
// S, which is float32, is multiplied as 16 bits. cp.async cannot convert, so its copies land in a staging
// area beside the stages; round() converts them into the stage before they are multiplied. A thread rounds
// the very vectors that it copied, so that it needs no barrier for that, and two tiles have room there, since
// one is copied while the other is rounded.
#pragma once

#include <type_traits>

#include "kernels/cuda/product.h"

namespace bdh::cuda {

/// Bytes of the staging area for float32 operands, for stages of so many elements.
constexpr size_t staging_bytes(int elements) { return 2 * static_cast<size_t>(elements) * sizeof(float); }

template <class T, Along a_along, Along b_along, class Element, class B>
class Pipeline {
 public:
  /// memory: T::shared bytes, and T::staging more where B is float. The tile of C begins at (m0, n0), the sum
  /// is over [k0, k1).
  __device__ Pipeline(const Matrix<Element>& a, const Matrix<B>& b, int m0, int n0, int k0, int k1,
                      unsigned char* memory)
      : a_(a),
        b_(b),
        m0_(m0),
        n0_(n0),
        k0_(k0),
        k1_(k1),
        a_stages_(reinterpret_cast<Element*>(memory)),
        b_stages_(a_stages_ + T::stages * T::operand),
        staging_(reinterpret_cast<uint4*>(b_stages_ + T::stages * T::operand) + threadIdx.x) {}

  /// For every tile of k: show() by every thread when its part of the tile is in shared memory; then, after a
  /// barrier, multiply(stage of A, stage of B).
  template <class Show, class Multiply>
  __device__ void run(Show&& show, Multiply&& multiply) const {
    for (int tile = 0; tile < T::stages - 1; ++tile) stage(tile);
    for (int tile = 0; k0_ + tile * T::depth < k1_; ++tile) {
      copy_async_wait<T::stages - 2>();
      if constexpr (kRounds) round(tile);
      show();
      __syncthreads();
      stage(tile + T::stages - 1);
      const int offset = tile % T::stages * T::operand;
      multiply(a_stages_ + offset, b_stages_ + offset);
    }
    copy_async_wait<0>();
  }

 private:
  static constexpr bool kRounds = !std::is_same_v<B, Element>;
  static constexpr int kVectors = T::depth * T::rows / kVector;  // of a stage of an operand
  static constexpr int kOwn = kVectors / kProductThreads;        // of them, a thread's
  static_assert(kVectors % kProductThreads == 0);

  // A vector of a tile, where it stands in its matrix.
  template <Along along, class From>
  __device__ static const From* source(const Matrix<From>& from, int m0, int k0, int k1, int vector,
                                       bool& inside) {
    constexpr int kOfRow = (along == Along::k ? T::depth : T::rows) / kVector;
    const int row = vector / kOfRow + (along == Along::k ? m0 : k0),
              column = vector % kOfRow * kVector + (along == Along::k ? k0 : m0);
    inside = row < from.rows && column < from.columns && (along == Along::k ? column : row) < k1;
    return inside ? from.data + row * from.stride + column : from.data;
  }

  // Where the first half of the thread's own-th float32 vector of a tile is staged; the second is
  // kProductThreads further on.
  __device__ uint4* staged(int tile, int own) const {
    return staging_ + (tile % 2 * kOwn + own) * 2 * kProductThreads;
  }

  __device__ void stage(int tile) const {
    const int k = k0_ + tile * T::depth, offset = tile % T::stages * T::operand;
    if (k < k1_) {
#pragma unroll
      for (int own = 0; own < kOwn; ++own) {
        const int vector = own * kProductThreads + threadIdx.x;
        bool inside;
        const Element* a = source<a_along>(a_, m0_, k, k1_, vector, inside);
        copy_async_16(a_stages_ + offset + T::template place<a_along>(vector), a, inside);
        const B* b = source<b_along>(b_, n0_, k, k1_, vector, inside);
        if constexpr (kRounds) {
          copy_async_16(staged(tile, own), b, inside);
          copy_async_16(staged(tile, own) + kProductThreads, inside ? b + kVector / 2 : b, inside);
        } else {
          copy_async_16(b_stages_ + offset + T::template place<b_along>(vector), b, inside);
        }
      }
    }
    copy_async_commit();
  }

  __device__ void round(int tile) const {
#pragma unroll
    for (int own = 0; own < kOwn; ++own) {
      const int vector = own * kProductThreads + threadIdx.x;
      float value[kVector];
      __builtin_memcpy(value, staged(tile, own), sizeof(uint4));
      __builtin_memcpy(value + kVector / 2, staged(tile, own) + kProductThreads, sizeof(uint4));
      store_vector(b_stages_ + tile % T::stages * T::operand + T::template place<b_along>(vector), value);
    }
  }

  const Matrix<Element>& a_;
  const Matrix<B>& b_;
  int m0_, n0_, k0_, k1_;
  Element *a_stages_, *b_stages_;
  uint4* staging_;  // the thread's
};

}  // namespace bdh::cuda
