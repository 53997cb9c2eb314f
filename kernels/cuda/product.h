// One tile of a matrix product, by a block: C (m, n) = sum over k of A (m, k) B (k, n), float32 sums, handed
// to the caller in pairs of adjacent columns, so that what follows a product is done where its numbers are.
// Device code; knows matrices alone.
//
// float: 64 x 64 on the ordinary units, a thread has 4 x 4 sums; also the referee of the other.
// bfloat16, float16: 128 x 128 on the tensor cores (mma.sync m16n8k16), eight warps of 64 x 32, operands
// through three stages of shared memory that asynchronous copies fill ahead. Rows of a stage are padded by 16
// bytes, so that the eight rows that ldmatrix reads at once lie in different banks.
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

template <class Element>
struct Tile {
  static constexpr int rows = 128, columns = 128, depth = 32, stages = 3;
  static constexpr int pitch_k = depth + 8, pitch_other = rows + 8;
  static constexpr int operand = rows * pitch_k;  // elements of one stage of one operand, in either order
  static constexpr size_t shared = 2 * stages * operand * sizeof(Element);
  static_assert(rows == columns && depth * pitch_other <= operand);
};

template <>
struct Tile<float> {
  static constexpr int rows = 64, columns = 64, depth = 16, pitch = rows + 4;
  static constexpr size_t shared = 2 * depth * pitch * sizeof(float);
};

// ---- float ----

// Puts (k, m) of an operand's tile into shared memory as (depth, pitch).
template <Along along, class Element>
__device__ inline void load_tile(const Matrix<Element>& from, int m0, int k0, int k1, float* to) {
  using T = Tile<float>;
  for (int i = threadIdx.x; i < T::depth * T::rows; i += kProductThreads) {
    const int k = along == Along::k ? i % T::depth : i / T::rows,
              m = along == Along::k ? i / T::depth : i % T::rows;
    const int row = along == Along::k ? m0 + m : k0 + k, column = along == Along::k ? k0 + k : m0 + m;
    const bool inside = k0 + k < k1 && row < from.rows && column < from.columns;
    to[k * T::pitch + m] = inside ? to_float(from.data[row * from.stride + column]) : 0.0f;
  }
}

template <Along a_along, Along b_along, class B, class Store>
__device__ inline void product(const Matrix<float>& a, const Matrix<B>& b, int m0, int n0, int k0, int k1,
                               Store&& store) {
  using T = Tile<float>;
  auto* a_tile = reinterpret_cast<float*>(shared_memory());
  float* b_tile = a_tile + T::depth * T::pitch;
  const int m = threadIdx.x / 16 * 4, n = threadIdx.x % 16 * 4;
  float sum[4][4] = {};
  for (; k0 < k1; k0 += T::depth) {
    load_tile<a_along>(a, m0, k0, k1, a_tile);
    load_tile<b_along>(b, n0, k0, k1, b_tile);
    __syncthreads();
#pragma unroll
    for (int k = 0; k < T::depth; ++k) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j)
          sum[i][j] = fmaf(a_tile[k * T::pitch + m + i], b_tile[k * T::pitch + n + j], sum[i][j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; j += 2) store(m0 + m + i, n0 + n + j, sum[i][j], sum[i][j + 1]);
  }
}

// ---- 16-bit elements ----

__device__ inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                    const __nv_bfloat16*) {
  mma_bf16(d, a, b);
}
__device__ inline void multiply_add(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                    const __half*) {
  mma_f16(d, a, b);
}

// Where 8 adjacent elements of a stage lie: `i` counts them along stored rows.
template <Along along, class Element>
struct StageVector {
  static constexpr int row_length = along == Along::k ? Tile<Element>::depth : Tile<Element>::rows;
  static constexpr int pitch = along == Along::k ? Tile<Element>::pitch_k : Tile<Element>::pitch_other;
  static constexpr int count = Tile<Element>::depth * Tile<Element>::rows / kVector;
  int row, column;

  __device__ explicit StageVector(int i)
      : row(i / (row_length / kVector)), column(i % (row_length / kVector) * kVector) {}
};

// Starts filling a stage with the operand's tile at (m0, k0).
template <Along along, class Element>
__device__ inline void fill_stage(const Matrix<Element>& from, int m0, int k0, int k1, Element* stage) {
  using Vector = StageVector<along, Element>;
  for (int i = threadIdx.x; i < Vector::count; i += kProductThreads) {
    const Vector at(i);
    const int row = at.row + (along == Along::k ? m0 : k0),
              column = at.column + (along == Along::k ? k0 : m0);
    const bool inside = row < from.rows && column < from.columns && (along == Along::k ? column : row) < k1;
    copy_async_16(stage + at.row * Vector::pitch + at.column,
                  inside ? from.data + row * from.stride + column : from.data, inside);
  }
}

// The same from float32 numbers, rounded on the way.
template <Along along, class Element>
__device__ inline void fill_stage(const Matrix<float>& from, int m0, int k0, int k1, Element* stage) {
  using Vector = StageVector<along, Element>;
  for (int i = threadIdx.x; i < Vector::count; i += kProductThreads) {
    const Vector at(i);
    const int row = at.row + (along == Along::k ? m0 : k0),
              column = at.column + (along == Along::k ? k0 : m0);
    float value[kVector] = {};
    if (row < from.rows && column < from.columns && (along == Along::k ? column : row) < k1)
      load_vector(from.data + row * from.stride + column, value);
    Element* to = stage + at.row * Vector::pitch + at.column;
#pragma unroll
    for (int j = 0; j < kVector; ++j) to[j] = from_float<Element>(value[j]);
  }
}

// A's fragment (16, 16) at (m, k) of a stage.
template <Along along, class Element>
__device__ inline void load_a(uint32_t (&r)[4], const Element* stage, int m, int k, int lane) {
  if constexpr (along == Along::k) {
    load_matrix_x4(r, stage + (m + lane % 16) * Tile<Element>::pitch_k + k + lane / 16 * 8);
  } else {
    load_matrix_x4_transposed(
        r, stage + (k + lane % 8 + lane / 16 * 8) * Tile<Element>::pitch_other + m + lane / 8 % 2 * 8);
  }
}

// B's fragments (16, 8) at (k, n) and (k, n + 8).
template <Along along, class Element>
__device__ inline void load_b(uint32_t (&r)[4], const Element* stage, int n, int k, int lane) {
  if constexpr (along == Along::k) {
    load_matrix_x4(r, stage + (n + lane % 8 + lane / 16 * 8) * Tile<Element>::pitch_k + k + lane / 8 % 2 * 8);
  } else {
    load_matrix_x4_transposed(r, stage + (k + lane % 16) * Tile<Element>::pitch_other + n + lane / 16 * 8);
  }
}

constexpr int kWarpRows = 64, kWarpColumns = 32;  // of C, to a warp
constexpr int kMmaRows = 16, kMmaColumns = 8, kMmaDepth = 16;

using WarpSums = float[kWarpRows / kMmaRows][kWarpColumns / kMmaColumns][4];

template <Along a_along, Along b_along, class Element>
__device__ inline void multiply_stage(const Element* a, const Element* b, int m, int n, int lane,
                                      WarpSums& sum) {
#pragma unroll
  for (int k = 0; k < Tile<Element>::depth; k += kMmaDepth) {
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
__device__ inline void product(const Matrix<Element>& a, const Matrix<B>& b, int m0, int n0, int k0, int k1,
                               Store&& store) {
  using T = Tile<Element>;
  auto* a_stages = reinterpret_cast<Element*>(shared_memory());
  Element* b_stages = a_stages + T::stages * T::operand;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int m = warp / 4 * kWarpRows, n = warp % 4 * kWarpColumns;
  const int steps = (k1 - k0 + T::depth - 1) / T::depth;
  const auto fill = [&](int step) {
    if (step < steps) {
      const int stage = step % T::stages * T::operand, k = k0 + step * T::depth;
      fill_stage<a_along>(a, m0, k, k1, a_stages + stage);
      fill_stage<b_along>(b, n0, k, k1, b_stages + stage);
    }
    copy_async_commit();
  };
  WarpSums sum = {};
  for (int step = 0; step < T::stages - 1; ++step) fill(step);
  for (int step = 0; step < steps; ++step) {
    copy_async_wait<T::stages - 2>();
    __syncthreads();
    fill(step + T::stages - 1);
    const int stage = step % T::stages * T::operand;
    multiply_stage<a_along, b_along>(a_stages + stage, b_stages + stage, m, n, lane, sum);
  }
  copy_async_wait<0>();
#pragma unroll
  for (int i = 0; i < kWarpRows / kMmaRows; ++i) {
#pragma unroll
    for (int j = 0; j < kWarpColumns / kMmaColumns; ++j) {
      const int row = m0 + m + i * kMmaRows + lane / 4, column = n0 + n + j * kMmaColumns + lane % 4 * 2;
      store(row, column, sum[i][j][0], sum[i][j][1]);
      store(row + 8, column, sum[i][j][2], sum[i][j][3]);
    }
  }
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
