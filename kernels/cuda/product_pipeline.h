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
// S, which is float32, and quantized weights are multiplied as 16 bits. cp.async cannot convert, so its
// copies land in a staging area beside the stages; round() converts them into the stage before they are
// multiplied. A thread rounds the very vectors that it copied, so that it needs no barrier for that, and two
// tiles have room there, since one is copied while the other is rounded.
#pragma once

#include <type_traits>

#include "kernels/cuda/product.h"

namespace bdh::cuda {

/// A thread's vector of B on its way: where its copies land in an area that each thread of the block has a
/// part of. What is not inside the matrix is zero.
template <class B>
class StagedVector;

template <>
class StagedVector<float> {
 public:
  static constexpr int kBytes = kVector * sizeof(float);

  __device__ explicit StagedVector(unsigned char* area)
      : low_(reinterpret_cast<uint4*>(area) + threadIdx.x), high_(low_ + kProductThreads) {}

  __device__ void copy(const Matrix<float>& from, int row, int column, bool inside) const {
    const float* at = inside ? from.data + row * from.stride + column : from.data;
    copy_async<16>(low_, at, inside);
    copy_async<16>(high_, inside ? at + kVector / 2 : at, inside);
  }
  __device__ void widen(const Matrix<float>&, int /*row*/, int /*column*/, float (&to)[kVector]) const {
    __builtin_memcpy(to, low_, sizeof *low_);
    __builtin_memcpy(to + kVector / 2, high_, sizeof *high_);
  }

 private:
  uint4 *low_, *high_;
};

/// A copy has at least four bytes: two scales, of which one is the vector's.
template <class Eight>
requires kQuantized<Eight>
class StagedVector<Eight> {
 public:
  static constexpr int kBytes = sizeof(Eight) + sizeof(uint32_t);

  __device__ explicit StagedVector(unsigned char* area)
      : eight_(reinterpret_cast<Eight*>(area) + threadIdx.x),
        scales_(reinterpret_cast<uint32_t*>(area + kProductThreads * sizeof(Eight)) + threadIdx.x) {}

  __device__ void copy(const Matrix<Eight>& from, int row, int column, bool inside) const {
    const WeightRows<Eight>& weights = from.weights;
    copy_async<sizeof(Eight)>(eight_, inside ? weights.vector_at(row, column) : weights.data, inside);
    const auto scale = reinterpret_cast<uintptr_t>(inside ? weights.scale_at(row, column) : weights.scales);
    copy_async<4>(scales_, reinterpret_cast<const void*>(scale & ~uintptr_t{3}), inside);
  }
  __device__ void widen(const Matrix<Eight>& from, int row, int column, float (&to)[kVector]) const {
    const bool second = reinterpret_cast<uintptr_t>(from.weights.scale_at(row, column)) & 2;
    const float scale =
        to_float(__ushort_as_half(static_cast<unsigned short>(*scales_ >> (second ? 16 : 0))));
    eight_->unpack(to);
#pragma unroll
    for (int i = 0; i < kVector; ++i) to[i] *= scale;
  }

 private:
  Eight* eight_;
  uint32_t* scales_;
};

/// Bytes of the staging area of stages of so many elements; 0 where B is stored as A is.
template <class Element, class B>
constexpr size_t staging_bytes(int elements) {
  if constexpr (std::is_same_v<Element, B>) {
    return 0;
  } else {
    return 2 * static_cast<size_t>(elements / kVector) * StagedVector<B>::kBytes;
  }
}

template <class T, Along a_along, Along b_along, class Element, class B>
class Pipeline {
 public:
  /// memory: T::shared bytes, and T::staging<B> more. The tile of C begins at (m0, n0), the sum
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
        staging_(reinterpret_cast<unsigned char*>(b_stages_ + T::stages * T::operand)) {}

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

  // Where a vector of a tile stands in its matrix.
  struct Place {
    int row, column;
    bool inside;
  };

  template <Along along, class From>
  __device__ static Place place_of(const Matrix<From>& from, int m0, int k0, int k1, int vector) {
    constexpr int kOfRow = (along == Along::k ? T::depth : T::rows) / kVector;
    const int row = vector / kOfRow + (along == Along::k ? m0 : k0),
              column = vector % kOfRow * kVector + (along == Along::k ? k0 : m0);
    return {row, column, row < from.rows && column < from.columns && (along == Along::k ? column : row) < k1};
  }

  __device__ static void copy(Element* to, const Matrix<Element>& from, const Place& place) {
    copy_async<16>(to, place.inside ? from.data + place.row * from.stride + place.column : from.data,
                   place.inside);
  }

  // The thread's own-th vector of a tile.
  __device__ StagedVector<B> staged(int tile, int own) const {
    return StagedVector<B>(staging_ + (tile % 2 * kOwn + own) * kProductThreads * StagedVector<B>::kBytes);
  }

  __device__ void stage(int tile) const {
    const int k = k0_ + tile * T::depth, offset = tile % T::stages * T::operand;
    if (k < k1_) {
#pragma unroll
      for (int own = 0; own < kOwn; ++own) {
        const int vector = own * kProductThreads + threadIdx.x;
        copy(a_stages_ + offset + T::template place<a_along>(vector), a_,
             place_of<a_along>(a_, m0_, k, k1_, vector));
        const Place b = place_of<b_along>(b_, n0_, k, k1_, vector);
        if constexpr (kRounds) {
          staged(tile, own).copy(b_, b.row, b.column, b.inside);
        } else {
          copy(b_stages_ + offset + T::template place<b_along>(vector), b_, b);
        }
      }
    }
    copy_async_commit();
  }

  __device__ void round(int tile) const {
#pragma unroll
    for (int own = 0; own < kOwn; ++own) {
      const int vector = own * kProductThreads + threadIdx.x;
      const Place b = place_of<b_along>(b_, n0_, k0_ + tile * T::depth, k1_, vector);
      float value[kVector];
      staged(tile, own).widen(b_, b.row, b.column, value);
      store_vector(b_stages_ + tile % T::stages * T::operand + T::template place<b_along>(vector), value);
    }
  }

  const Matrix<Element>& a_;
  const Matrix<B>& b_;
  int m0_, n0_, k0_, k1_;
  Element *a_stages_, *b_stages_;
  unsigned char* staging_;
};

}  // namespace bdh::cuda
