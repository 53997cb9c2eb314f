// A row spread over the lanes of a warp: lane l holds columns 8 l ... 8 l + 7 of every 256. Device code of
// the one-token kernels.
#pragma once

#include "kernels/cuda/decode.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/sizes.h"
#include "kernels/cuda/weight_rows.h"

namespace bdh::cuda {

constexpr int kTogether = 8;            // rows a warp reads at once
constexpr int kSpan = kWarp * kVector;  // columns that a warp's lanes hold in one vector each
constexpr int kDecodeWarps = kDecodeThreads / kWarp;

template <int Vectors>
struct LaneRow {
  float value[Vectors][kVector];
};

/// The lane's part of a row; 0 beyond the row's `stride` elements.
template <int Vectors, class Element>
__device__ inline void load_lanes(const Element* row, int lane, int stride, LaneRow<Vectors>& to) {
#pragma unroll
  for (int v = 0; v < Vectors; ++v) {
    const int column = v * kSpan + lane * kVector;
    if (column < stride) {
      load_vector(row + column, to.value[v]);
    } else {
#pragma unroll
      for (int j = 0; j < kVector; ++j) to.value[v][j] = 0.0f;
    }
  }
}

template <int Vectors>
__device__ inline void store_lanes(float* row, int lane, int stride, const LaneRow<Vectors>& from) {
#pragma unroll
  for (int v = 0; v < Vectors; ++v) {
    const int column = v * kSpan + lane * kVector;
    if (column < stride) store_vector(row + column, from.value[v]);
  }
}

/// Rows whose reads are in flight together in dot_rows: as many as a thread's registers hold.
template <int Vectors, int Group>
constexpr int kInFlight = Vectors* Group <= 2 ? kTogether : 2 * kTogether / (Vectors * Group);

/// sums[g][i]: the lane's part of the dot product of x[g] and row row_of(i), from column `begin` on. Reads
/// come before uses, and none hangs on a condition: else a row would be waited for before the next is asked
/// for.
template <int Vectors, int Group, class Element, class RowOf>
__device__ inline void dot_rows(const WeightRows<Element>& weights, RowOf&& row_of, int lane, int begin,
                                int stride, const LaneRow<Vectors> (&x)[Group],
                                float (&sums)[Group][kTogether]) {
  constexpr int kRows = kInFlight<Vectors, Group>;
#pragma unroll
  for (int part = 0; part < Vectors * kTogether / kRows; ++part) {
    const int v = part % Vectors, first = part / Vectors * kRows, column = begin + v * kSpan + lane * kVector;
    typename WeightRows<Element>::Vector rows[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) rows[i] = weights.load(row_of(first + i), min(column, stride - kVector));
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      float row[kVector];
      unpack(rows[i], row);
#pragma unroll
      for (int g = 0; g < Group; ++g) {
        float sum = 0;
#pragma unroll
        for (int j = 0; j < kVector; ++j) sum = fmaf(row[j], x[g].value[v][j], sum);
        sum = column < stride ? sum * scale_of(rows[i]) : 0.0f;
        sums[g][first + i] = v == 0 ? sum : sums[g][first + i] + sum;
      }
    }
  }
}

/// Adds the warps' rows, which are in shared memory as (warps, stride), into `to`, in the order of the warps.
__device__ inline void add_warps(const float* parts, int stride, float* to) {
  for (int d = threadIdx.x; d < stride; d += blockDim.x) {
    float sum = 0;
    for (int warp = 0; warp < kDecodeWarps; ++warp) sum += parts[warp * stride + d];
    to[d] = sum;
  }
}

/// The sum of `count` rows that other blocks wrote, added in a fixed order: groups of threads add a share of
/// the rows each, many loads in flight, then the shares are added in order. memory holds (kDecodeWarps,
/// stride), and the sum is left in its first row.
__device__ inline void add_blocks(const float* parts, int count, int stride, float* memory) {
  const int vectors = stride / 4, groups = min(kDecodeWarps, max(1, kDecodeThreads / vectors)),
            share = (count + groups - 1) / groups;
  for (int i = threadIdx.x; i < vectors * groups; i += blockDim.x) {
    const int group = i / vectors, column = i % vectors * 4, end = min((group + 1) * share, count);
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll 16
    for (int row = group * share; row < end; ++row) {
      const float4 more = __ldcg(reinterpret_cast<const float4*>(parts + int64_t{row} * stride + column));
      sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
    }
    *reinterpret_cast<float4*>(memory + group * stride + column) = sum;
  }
  __syncthreads();
  for (int d = threadIdx.x; d < stride; d += blockDim.x) {
    float sum = 0;
    for (int group = 0; group < groups; ++group) sum += memory[group * stride + d];
    memory[d] = sum;
  }
  __syncthreads();
}

/// Which neurons a block has: grid (blocks of a head, heads, sequences or groups of them).
struct DecodeBlock {
  int block, blocks, head, warp, lane;
  int begin, end;     // neurons of the head
  int64_t first_row;  // head * N: the head's first row of E, Ev, the decoder and S

  __device__ explicit DecodeBlock(const Sizes& sizes)
      : block(blockIdx.x),
        blocks(gridDim.x),
        head(blockIdx.y),
        warp(threadIdx.x / kWarp),
        lane(threadIdx.x % kWarp),
        begin(block * kBlockNeurons),
        end(min(begin + kBlockNeurons, sizes.neurons)),
        first_row(int64_t{head} * sizes.neurons) {}

  /// The head's n of a sequence.
  __device__ float* n(const Sizes& sizes, const DecodeBuffers& buffers, int sequence) const {
    return buffers.n + sequence * sizes.rows() + first_row;
  }
  /// The head's row of a buffer (B, H, stride).
  __device__ float* row(const Sizes& sizes, float* rows, int sequence) const {
    return rows + (int64_t{sequence} * sizes.heads + head) * sizes.stride;
  }
  /// The head's parts of a sum (blocks, stride), of which `block` is the block's own.
  __device__ float* parts(const Sizes& sizes, const DecodeBuffers& buffers, int sequence) const {
    return buffers.partial + (int64_t{sequence} * sizes.heads + head) * blocks * sizes.stride;
  }
  __device__ DecodeCounts& counts(const Sizes& sizes, const DecodeBuffers& buffers, int sequence) const {
    return buffers.counts[(int64_t{sequence} * sizes.heads + head) * blocks + block];
  }
};

/// groups: of sequences.
inline dim3 decode_grid(const Sizes& sizes, int groups) {
  return dim3(static_cast<unsigned>(blocks_per_head(sizes)), static_cast<unsigned>(sizes.heads),
              static_cast<unsigned>(groups));
}

/// Shared memory of a one-token kernel: a row for each warp, and a number for each.
inline size_t decode_shared(const Sizes& sizes) {
  return static_cast<size_t>(kDecodeWarps) * static_cast<size_t>(sizes.stride + 1) * sizeof(float);
}

}  // namespace bdh::cuda
