// The way of a product's operands into shared memory: stages that asynchronous copies fill ahead of the
// tensor cores. Knows where a Tile wants a vector; knows nothing of how it is multiplied. Included by
// product.h.
//
// An operand in float32 is rounded on the way: its vectors wait in shared memory, two steps of them, each
// where the thread that brought it finds it again, so that neither a barrier nor a bank is shared.
#pragma once

#include <type_traits>

#include "kernels/cuda/product.h"

namespace bdh::cuda {

/// Bytes in which float32 vectors wait, for stages of so many elements.
constexpr size_t waiting_bytes(int elements) { return 2 * static_cast<size_t>(elements) * sizeof(float); }

template <class T, Along a_along, Along b_along, class Element, class B>
class Stages {
 public:
  /// memory: T::shared bytes, and T::waiting more where B is float. The tile of C begins at (m0, n0), the sum
  /// is over [k0, k1).
  __device__ Stages(const Matrix<Element>& a, const Matrix<B>& b, int m0, int n0, int k0, int k1,
                    unsigned char* memory)
      : a_(a),
        b_(b),
        m0_(m0),
        n0_(n0),
        k0_(k0),
        k1_(k1),
        a_stages_(reinterpret_cast<Element*>(memory)),
        b_stages_(a_stages_ + T::stages * T::operand),
        waiting_(reinterpret_cast<uint4*>(b_stages_ + T::stages * T::operand) + threadIdx.x) {}

  /// show() by every thread when its part of a step is in shared memory, then, after a barrier,
  /// multiply(stage of A, stage of B).
  template <class Show, class Multiply>
  __device__ void run(Show&& show, Multiply&& multiply) const {
    for (int step = 0; step < T::stages - 1; ++step) bring(step);
    for (int step = 0; k0_ + step * T::depth < k1_; ++step) {
      copy_async_wait<T::stages - 2>();
      if constexpr (kRounds) settle(step);
      show();
      __syncthreads();
      bring(step + T::stages - 1);
      const int stage = step % T::stages * T::operand;
      multiply(a_stages_ + stage, b_stages_ + stage);
    }
    copy_async_wait<0>();
  }

 private:
  static constexpr bool kRounds = !std::is_same_v<B, Element>;
  static constexpr int kVectors = T::depth * T::rows / kVector;  // of a stage of an operand

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

  // The first half of a float32 vector that waits; the second is kProductThreads further on.
  __device__ uint4* waiting_at(int step, int vector) const {
    return waiting_ + (step % 2 * kVectors + vector / kProductThreads * kProductThreads) * 2;
  }

  __device__ void bring(int step) const {
    const int k = k0_ + step * T::depth, stage = step % T::stages * T::operand;
    for (int i = threadIdx.x; k < k1_ && i < kVectors; i += kProductThreads) {
      bool inside;
      const Element* a = source<a_along>(a_, m0_, k, k1_, i, inside);
      copy_async_16(a_stages_ + stage + T::template place<a_along>(i), a, inside);
      const B* b = source<b_along>(b_, n0_, k, k1_, i, inside);
      if constexpr (kRounds) {
        copy_async_16(waiting_at(step, i), b, inside);
        copy_async_16(waiting_at(step, i) + kProductThreads, inside ? b + kVector / 2 : b, inside);
      } else {
        copy_async_16(b_stages_ + stage + T::template place<b_along>(i), b, inside);
      }
    }
    copy_async_commit();
  }

  __device__ void settle(int step) const {
    for (int i = threadIdx.x; i < kVectors; i += kProductThreads) {
      float value[kVector];
      __builtin_memcpy(value, waiting_at(step, i), sizeof(uint4));
      __builtin_memcpy(value + kVector / 2, waiting_at(step, i) + kProductThreads, sizeof(uint4));
      store_vector(b_stages_ + step % T::stages * T::operand + T::template place<b_along>(i), value);
    }
  }

  const Matrix<Element>& a_;
  const Matrix<B>& b_;
  int m0_, n0_, k0_, k1_;
  Element *a_stages_, *b_stages_;
  uint4* waiting_;  // the thread's
};

}  // namespace bdh::cuda
