// Softmax-free attention of a chunk of T rows:
//     scores = tril(r r^T, -1)   a = r S + scores x   attended = norm(a)   S += r^T x
//
// Flops of a head: N T^2 and D T^2 for the causal half of the scores and their use, 2 N D T each for readout
// and update. Bytes: r three times, S read once and written once however long the chunk is: the longer the
// chunk, the less of it. Tiles of the scores that lie wholly above the diagonal are neither computed nor
// read. The readout sums over N in kSplits parts that are added in order, so that few rows still fill the
// GPU. Readout and update are left out for segments that have no state.
#include "kernels/cuda/attention_prefill.h"

#include "kernels/cuda/damping.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/product.h"

namespace bdh::cuda {

namespace {

// What one head's tile works on.
template <class Activation>
struct Place {
  int head, m0;  // m0: within the segment
  PrefillSegment segment;
  Matrix<Activation> r;  // the segment's rows (count, columns)
  Matrix<Activation> x;  // (count, stride)

  __device__ Place(const Sizes& sizes, const PrefillBuffers& buffers, int which_head, int which_segment,
                   int row)
      : head(which_head), m0(row), segment(buffers.segment[which_segment]) {
    const int64_t all = int64_t{sizes.heads} * buffers.columns;
    r = {static_cast<const Activation*>(buffers.r) + segment.first * all + int64_t{head} * buffers.columns,
         all, segment.count, buffers.columns};
    x = {static_cast<const Activation*>(buffers.x_operand) + int64_t{segment.first} * sizes.stride,
         sizes.stride, segment.count, sizes.stride};
  }

  __device__ Activation* scores(const PrefillBuffers& buffers) const {
    return static_cast<Activation*>(buffers.scores) +
           (int64_t{head} * buffers.rows + segment.first) * buffers.scores_columns;
  }
  __device__ float* score_part(const Sizes& sizes, const PrefillBuffers& buffers, int split) const {
    return buffers.score_parts +
           ((int64_t{split} * sizes.heads + head) * buffers.rows + segment.first) * buffers.scores_columns;
  }
  // Part 0 is the chunk's own, part 1 + i the i-th of what S gives.
  __device__ float* part(const Sizes& sizes, const PrefillBuffers& buffers, int i) const {
    return buffers.attention +
           ((int64_t{i} * sizes.heads + head) * buffers.rows + segment.first) * sizes.stride;
  }
};

template <class Activation>
__device__ inline Place<Activation> place_of_tile(const Sizes& sizes, const PrefillBuffers& buffers) {
  const RowTile tile = buffers.tile[blockIdx.y];
  return {sizes, buffers, static_cast<int>(blockIdx.z), tile.segment, tile.begin};
}

// Grid: (column tiles * score_splits, row tiles, heads).
template <class Activation, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks)
    score(Sizes sizes, PrefillBuffers buffers) {
  const Place<Activation> place = place_of_tile<Activation>(sizes, buffers);
  const int splits = buffers.score_splits, split = blockIdx.x % splits;
  const int n0 = blockIdx.x / splits * Tile<Activation, mma>::columns;
  if (n0 >= place.m0 + Tile<Activation, mma>::rows || n0 >= place.segment.count) return;
  const int share =
      static_cast<int>(rounded_up(tiles(buffers.columns, splits), Tile<Activation, mma>::depth));
  const int k0 = min(split * share, buffers.columns), k1 = min(k0 + share, buffers.columns);
  float* part = place.score_part(sizes, buffers, split);
  product<mma, Along::k, Along::k>(
      place.r, place.r, place.m0, n0, k0, k1, [&](int row, int column, const float(&sums)[kVector]) {
        if (row < place.segment.count && column < buffers.scores_columns)
          store_vector(part + int64_t{row} * buffers.scores_columns + column, sums);
      });
}

constexpr int kMaskBlocks = 8;  // to a row tile

// scores = the sum of their parts, zero on and above the diagonal. Grid: (row tiles, heads, kMaskBlocks).
template <class Activation>
__global__ void mask(Sizes sizes, PrefillBuffers buffers) {
  const RowTile tile = buffers.tile[blockIdx.x];
  constexpr int kRows = Tile<Activation, Mma::warp>::rows / kMaskBlocks;
  const int first = tile.begin + static_cast<int>(blockIdx.z) * kRows;
  const Place<Activation> place(sizes, buffers, blockIdx.y, tile.segment, first);
  const int rows = min(kRows, place.segment.count - first);
  const int columns = min(tile.begin + Tile<Activation, Mma::warp>::rows, buffers.scores_columns);
  const int64_t all = int64_t{sizes.heads} * buffers.rows * buffers.scores_columns;
  const float* weights = weights_of(buffers, place.segment, place.head);
  for (int i = kVector * threadIdx.x; i < rows * columns; i += kVector * blockDim.x) {
    const int row = first + i / columns, column = i % columns;
    const int64_t at = int64_t{row} * buffers.scores_columns + column;
    const float* part = place.score_part(sizes, buffers, 0) + at;
    float sum[kVector] = {};
    for (int split = 0; split < buffers.score_splits && column < row; ++split, part += all) {
      float more[kVector];
      load_vector(part, more);
#pragma unroll
      for (int j = 0; j < kVector; ++j) sum[j] += column + j < row ? more[j] : 0.0f;
    }
    for (int j = 0; weights && j < kVector && column + j < row; ++j) sum[j] *= weights[row - column - j];
    store_vector(place.scores(buffers) + at, sum);
  }
}

// Grid: (D tiles, row tiles, heads).
template <class Activation, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks)
    apply(Sizes sizes, PrefillBuffers buffers) {
  const Place<Activation> place = place_of_tile<Activation>(sizes, buffers);
  const Matrix<Activation> scores{place.scores(buffers), buffers.scores_columns, place.segment.count,
                                  buffers.scores_columns};
  const int n0 = blockIdx.x * Tile<Activation, mma>::columns,
            keys = min(place.m0 + Tile<Activation, mma>::rows, place.segment.count);
  float* part = place.part(sizes, buffers, 0);
  product<mma, Along::k, Along::other>(scores, place.x, place.m0, n0, 0, keys,
                                       [&](int row, int column, const float(&sums)[kVector]) {
                                         if (row < place.segment.count && column < sizes.stride)
                                           store_vector(part + int64_t{row} * sizes.stride + column, sums);
                                       });
}

// Grid: (D tiles * kSplits, row tiles, heads).
template <class Activation, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks)
    readout(Sizes sizes, PrefillBuffers buffers, int layer) {
  const Place<Activation> place = place_of_tile<Activation>(sizes, buffers);
  if (!place.segment.reads_state) return;
  const int split = blockIdx.x % kSplits, n0 = blockIdx.x / kSplits * Tile<Activation, mma>::columns;
  const int share =
      static_cast<int>(rounded_up(tiles(buffers.columns, kSplits), Tile<Activation, mma>::depth));
  const int k0 = min(split * share, buffers.columns), k1 = min(k0 + share, buffers.columns);
  const Matrix<float> s{
      place.segment.s + (layer * sizes.rows() + int64_t{place.head} * sizes.neurons) * sizes.stride,
      sizes.stride, sizes.neurons, sizes.stride};
  float* part = place.part(sizes, buffers, 1 + split);
  product<mma, Along::k, Along::other>(place.r, s, place.m0, n0, k0, k1,
                                       [&](int row, int column, const float(&sums)[kVector]) {
                                         if (row < place.segment.count && column < sizes.stride)
                                           store_vector(part + int64_t{row} * sizes.stride + column, sums);
                                       });
}

// r of a damped segment, weighted by what it is worth behind the last row. Grid: (rows, heads).
template <class Activation>
__global__ void weigh(Sizes sizes, PrefillBuffers buffers) {
  const int row = blockIdx.x, head = blockIdx.y;
  const PrefillSegment& segment = buffers.segment[buffers.row[row].segment];
  const float* weights = weights_of(buffers, segment, head);
  if (!weights) return;
  const float weight = weights[segment.count - (row - segment.first)];
  auto* r = static_cast<Activation*>(buffers.r) + (int64_t{row} * sizes.heads + head) * buffers.columns;
  for (int i = kVector * threadIdx.x; i < buffers.columns; i += kVector * blockDim.x) {
    float value[kVector];
    load_vector(r + i, value);
#pragma unroll
    for (int j = 0; j < kVector; ++j) value[j] *= weight;
    store_vector(r + i, value);
  }
}

// Grid: (neuron tiles, D tiles, heads * segments).
template <class Activation, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks)
    update(Sizes sizes, PrefillBuffers buffers, int layer) {
  const int head = blockIdx.z % sizes.heads, m0 = blockIdx.x * Tile<Activation, mma>::rows;
  const Place<Activation> place(sizes, buffers, head, blockIdx.z / sizes.heads, m0);
  if (!place.segment.s) return;
  float* s = place.segment.s + (layer * sizes.rows() + int64_t{head} * sizes.neurons) * sizes.stride;
  const int n0 = blockIdx.y * Tile<Activation, mma>::columns;
  const float* weights = weights_of(buffers, place.segment, head);
  const float keep = weights ? scales_at(weights).keep : 1.0f;
  product<mma, Along::other, Along::other>(place.r, place.x, m0, n0, 0, place.segment.count,
                                           [&](int neuron, int column, const float(&sums)[kVector]) {
                                             if (neuron >= sizes.neurons || column >= sizes.stride) return;
                                             float* at = s + int64_t{neuron} * sizes.stride + column;
                                             float row[kVector];
                                             load_vector(at, row);
#pragma unroll
                                             for (int i = 0; i < kVector; ++i)
                                               row[i] = decayed(row[i], keep) + sums[i];
                                             store_vector(at, row);
                                           });
}

// attended = norm of the sum of the parts. Grid: (rows, heads).
template <class Activation>
__global__ void combine(Sizes sizes, PrefillBuffers buffers) {
  auto* a = reinterpret_cast<float*>(shared_memory());
  const int row = blockIdx.x, head = blockIdx.y;
  const int64_t at = (int64_t{head} * buffers.rows + row) * sizes.stride;
  const int64_t all = int64_t{sizes.heads} * buffers.rows * sizes.stride;
  const PrefillRow own = buffers.row[row];
  const int parts = own.reads_state || buffers.single_rows ? 1 + kSplits : 1;
  const PrefillSegment& segment = buffers.segment[own.segment];
  const float* weights = weights_of(buffers, segment, head);
  const float readout = weights ? scales_at(weights).readout * weights[row - segment.first] : 1.0f;
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) {
    float sum = 0;
    for (int i = 0; i < parts; ++i) {
      const float part = buffers.attention[i * all + at + d];
      sum += i == 0 && !buffers.single_rows ? part : part * readout;
    }
    a[d] = sum;
  }
  __syncthreads();
  block_norm(a, sizes.width, a + sizes.stride);
  auto* attended = static_cast<Activation*>(buffers.attended);
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x)
    attended[at + d] = from_float<Activation>(a[d]);
}

}  // namespace

void attention_prefill(const PackedParameters& packed, const PrefillBuffers& buffers, int layer,
                       cudaStream_t stream) {
  const Range range("attention");
  const Sizes& sizes = packed.sizes;
  const auto heads = static_cast<unsigned>(sizes.heads), row_tiles = static_cast<unsigned>(buffers.row_tiles);
  const auto segments = static_cast<unsigned>(buffers.segments);
  with_mma(buffers, [&](auto activation, auto chosen) {
    using Activation = decltype(activation);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Activation, mma>;
    const unsigned width = tiles(sizes.stride, T::columns);
    const dim3 threads(kProductThreads);
    const auto splits = static_cast<unsigned>(buffers.score_splits);
    launch(stream,
           {dim3(tiles(buffers.scores_columns, T::columns) * splits, row_tiles, heads), threads, T::shared},
           score<Activation, mma>, sizes, buffers);
    launch(stream, {dim3(row_tiles, heads, kMaskBlocks), threads}, mask<Activation>, sizes, buffers);
    launch(stream, {dim3(width, row_tiles, heads), threads, T::shared}, apply<Activation, mma>, sizes,
           buffers);
    launch(stream, {dim3(width * kSplits, row_tiles, heads), threads, T::shared + T::template staging<float>},
           readout<Activation, mma>, sizes, buffers, layer);
    if (buffers.damped)
      launch(stream, {dim3(static_cast<unsigned>(buffers.rows), heads), threads}, weigh<Activation>, sizes,
             buffers);
    launch(stream, {dim3(tiles(sizes.neurons, T::rows), width, heads * segments), threads, T::shared},
           update<Activation, mma>, sizes, buffers, layer);
  });
  combine_attention(packed, buffers, stream);
}

void combine_attention(const PackedParameters& packed, const PrefillBuffers& buffers, cudaStream_t stream) {
  const Sizes& sizes = packed.sizes;
  const Grid grid{dim3(static_cast<unsigned>(buffers.rows), static_cast<unsigned>(sizes.heads)),
                  dim3(kProductThreads), row_shared(sizes, kProductThreads)};
  with_element(buffers.activations,
               [&](auto activation) { launch(stream, grid, combine<decltype(activation)>, sizes, buffers); });
}

}  // namespace bdh::cuda
