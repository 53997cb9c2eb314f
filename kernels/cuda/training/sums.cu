// Products and sums that families share:
//     weights (m, n) += activations^T rows     over the group's rows
//     rows (R, D) = activations (R, N) times E, Ev, the decoder, S or dS, over the neurons of a head
//
// Both sum over a long k and have few tiles: k is divided into parts, which are stored and then added in
// order. Parts of a weight's gradient are made only as long as its tiles alone would leave multiprocessors
// idle; otherwise a tile is added where it belongs, by the block that made it.
#include "kernels/cuda/training/sums.h"

#include <algorithm>

#include "kernels/cuda/prefill.h"
#include "kernels/cuda/training/operands.h"

namespace bdh::cuda {

namespace {

constexpr int kWeightBlocks = 264;  // two for each multiprocessor of an H100
constexpr int kMostWeightSplits = 8;
constexpr int kSplitRows = 64;  // at least, for each split
constexpr int kAddThreads = 256;

/// to (batches, m, n) += activations^T (m, k) rows (k, n) for every batch.
struct WeightProduct {
  const void* activations;
  int64_t activations_stride, activations_next;
  const void* rows;
  int64_t rows_stride, rows_next;
  int count, m, n, batches;
  float* to;
  float* parts;  // (splits, batches, m, n), where there are several
  int splits;

  constexpr int64_t floats() const { return int64_t{batches} * m * n; }
};

int weight_splits(int m, int n, int batches, int count, int tile) {
  const int64_t blocks = int64_t{tiles(m, tile)} * tiles(n, tile) * batches;
  return static_cast<int>(std::clamp<int64_t>(
      kWeightBlocks / blocks, 1, std::min<int64_t>(kMostWeightSplits, tiles(count, kSplitRows))));
}

int tile_of(DType precision) {
  static_assert(Tile<__half, Mma::warp>::rows == Tile<__half, Mma::warpgroup>::rows);
  return precision == DType::f32 ? Tile<float, Mma::warp>::rows : Tile<__half, Mma::warp>::rows;
}

// Grid: (m tiles, n tiles * splits, batches).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) weight_gradient(WeightProduct w) {
  using T = Tile<Element, mma>;
  const int batch = blockIdx.z, m0 = blockIdx.x * T::rows, split = blockIdx.y % w.splits,
            n0 = blockIdx.y / w.splits * T::columns;
  const Matrix<Element> a{static_cast<const Element*>(w.activations) + batch * w.activations_next,
                          w.activations_stride, w.count, static_cast<int>(rounded_up(w.m, kVector))};
  const Matrix<Element> b{static_cast<const Element*>(w.rows) + batch * w.rows_next, w.rows_stride, w.count,
                          w.n};
  const Share share(w.count, w.splits, split, T::depth);
  const bool adds = w.splits == 1;
  float* to = adds ? w.to : w.parts + split * w.floats();
  to += int64_t{batch} * w.m * w.n;
  product<mma, Along::other, Along::other>(a, b, m0, n0, share.begin, share.end,
                                           [&](int row, int column, const float(&sums)[kVector]) {
                                             if (row >= w.m || column >= w.n) return;
                                             float* at = to + int64_t{row} * w.n + column;
                                             float total[kVector] = {};
                                             if (adds) load_vector(at, total);
#pragma unroll
                                             for (int i = 0; i < kVector; ++i) total[i] += sums[i];
                                             store_vector(at, total);
                                           });
}

__global__ void add_weight_parts(WeightProduct w) {
  const int64_t floats = w.floats();
  for (int64_t i = kVector * (int64_t{blockIdx.x} * blockDim.x + threadIdx.x); i < floats;
       i += int64_t{kVector} * gridDim.x * blockDim.x) {
    float total[kVector];
    load_vector(w.to + i, total);
    for (int split = 0; split < w.splits; ++split) {
      float more[kVector];
      load_vector(w.parts + split * floats + i, more);
#pragma unroll
      for (int j = 0; j < kVector; ++j) total[j] += more[j];
    }
    store_vector(w.to + i, total);
  }
}

void add_weight_gradient(const TrainingPass& p, WeightProduct w, cudaStream_t stream) {
  w.parts = p.weight_parts;
  w.splits = weight_splits(w.m, w.n, w.batches, w.count, tile_of(p.precision));
  with_operands(p, [&](auto element, auto chosen) {
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Element, mma>;
    const dim3 blocks(tiles(w.m, T::rows), tiles(w.n, T::columns) * static_cast<unsigned>(w.splits),
                      static_cast<unsigned>(w.batches));
    launch(stream, {blocks, dim3(kProductThreads), T::shared}, weight_gradient<Element, mma>, w);
  });
  if (w.splits == 1) return;
  const auto blocks = static_cast<unsigned>(
      std::min<int64_t>((w.floats() / kVector + kAddThreads - 1) / kAddThreads, kWeightBlocks * 4));
  launch(stream, {dim3(blocks), dim3(kAddThreads)}, add_weight_parts, w);
}

// Grid: (D tiles * kSplits, tiles of all rows, heads).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks)
    neuron_product(TrainingPass p, const void* activations, int64_t offset, float* parts) {
  using T = Tile<Element, mma>;
  const int head = blockIdx.z, split = blockIdx.x % kSplits, n0 = blockIdx.x / kSplits * T::columns;
  const Share share(p.columns, kSplits, split, T::depth);
  float* part = parts + (int64_t{head} * kSplits + split) * p.rows * p.sizes.stride;
  product<mma, Along::k, Along::other>(activations_of<Element>(p, activations, all_rows(p), head),
                                       neurons_of<Element>(p, offset, head), blockIdx.y * T::rows, n0,
                                       share.begin, share.end,
                                       [&](int row, int column, const float(&sums)[kVector]) {
                                         if (row < p.rows && column < p.sizes.stride)
                                           store_vector(part + int64_t{row} * p.sizes.stride + column, sums);
                                       });
}

// Grid: (D tiles * kSplits, row tiles of the segments, heads).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks)
    state_product(TrainingPass p, const float* state) {
  using T = Tile<Element, mma>;
  const SegmentTile tile(p, T::rows);
  const int head = blockIdx.z, split = blockIdx.x % kSplits, n0 = blockIdx.x / kSplits * T::columns;
  const Share share(p.columns, kSplits, split, T::depth);
  float* part =
      p.parts + ((int64_t{head} * kSplits + split) * p.rows + tile.segment * p.length) * p.sizes.stride;
  product<mma, Along::k, Along::other>(activations_of<Element>(p, p.r, segment_rows(p, tile.segment), head),
                                       state_of(p, state, tile.segment, head), tile.m0, n0, share.begin,
                                       share.end, [&](int row, int column, const float(&sums)[kVector]) {
                                         if (row < p.length && column < p.sizes.stride)
                                           store_vector(part + int64_t{row} * p.sizes.stride + column, sums);
                                       });
}

// Grid: rows.
__global__ void add_parts(TrainingPass p, DxParts what) {
  const int row = blockIdx.x, stride = p.sizes.stride;
  const int64_t all = int64_t{p.rows} * stride;
  for (int d = threadIdx.x; d < stride; d += blockDim.x) {
    float total = 0;
    for (int head = 0; head < p.heads; ++head) {
      const float* own = p.own + head * all + int64_t{row} * stride;
      const float* part = p.parts + head * kSplits * all + int64_t{row} * stride;
      const float* weights = what.weighted ? p.weights_of(head) : nullptr;
      float sum = what.own ? own[d] : 0.0f;
      for (int split = 0; split < kSplits && what.parts; ++split) sum += part[split * all + d];
      total += weights ? sum * weights[p.length - row % p.length] : sum;
    }
    p.dx_next[p.batch_row(row) * stride + d] += total;
  }
}

}  // namespace

void add_neuron_gradient(const TrainingPass& p, const void* activations, HeadRows rows, int64_t offset,
                         cudaStream_t stream) {
  const int64_t first = int64_t{p.first_head} * p.sizes.neurons * p.sizes.stride;
  add_weight_gradient(
      p,
      {activations, int64_t{p.heads} * p.columns, p.columns, rows.rows, p.sizes.stride, rows.next, p.rows,
       p.sizes.neurons, p.sizes.stride, p.heads, p.gradient + offset + first, nullptr, 0},
      stream);
}

void add_head_gradient(const TrainingPass& p, cudaStream_t stream) {
  add_weight_gradient(p,
                      {p.x_rows, p.sizes.stride, 0, p.dlogits, p.vocab_stride, 0, p.logit_count,
                       p.sizes.width, p.vocab_stride, 1, p.gradient + p.lm_head, nullptr, 0},
                      stream);
}

int64_t weight_part_floats(const Sizes& sizes, DType precision, int heads, int most_rows, int vocab_stride) {
  const auto floats = [&](int m, int n, int batches) {
    const int splits = weight_splits(m, n, batches, most_rows, tile_of(precision));
    return splits == 1 ? 0 : int64_t{splits} * batches * m * n;
  };
  int64_t most = floats(sizes.width, vocab_stride, 1);
  for (int batches = 1; batches <= heads; ++batches)
    most = std::max(most, floats(sizes.neurons, sizes.stride, batches));
  return most;
}

void multiply_neurons(const TrainingPass& p, const void* activations, int64_t offset, float* parts,
                      cudaStream_t stream) {
  with_operands(p, [&](auto element, auto chosen) {
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Element, mma>;
    const dim3 blocks(tiles(p.sizes.stride, T::columns) * kSplits, tiles(p.rows, T::rows),
                      static_cast<unsigned>(p.heads));
    launch(stream, {blocks, dim3(kProductThreads), T::shared}, neuron_product<Element, mma>, p, activations,
           offset, parts);
  });
}

void multiply_state(const TrainingPass& p, const float* state, cudaStream_t stream) {
  with_operands(p, [&](auto element, auto chosen) {
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Element, mma>;
    const dim3 blocks(tiles(p.sizes.stride, T::columns) * kSplits, segment_tiles(p, T::rows),
                      static_cast<unsigned>(p.heads));
    launch(stream, {blocks, dim3(kProductThreads), T::shared + T::template staging<float>},
           state_product<Element, mma>, p, state);
  });
}

void add_to_dx(const TrainingPass& p, DxParts what, cudaStream_t stream) {
  launch(stream, {dim3(static_cast<unsigned>(p.rows)), dim3(row_threads(p.sizes.stride))}, add_parts, p,
         what);
}

}  // namespace bdh::cuda
