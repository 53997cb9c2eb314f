// Softmax-free attention in training, for a group whose segments have T rows each, with m weighted by the
// horizon w where there is one:
//     m = w tril(r r^T, -1)   a = w r S + m x   attended = norm(a)                       S = w (S) + (w r)^T
//     x da = norm's gradient of dv Ev^T           dm = w tril(da x^T, -1) dr = (dm + dm^T) r + w da S^T dx +=
//     m^T da
// and, from the groups behind:
//     dr += w x dS^T                            dx += w r dS                           dS = w (dS) + r^T (w
//     da)
//
// Flops of a head: N T^2 for the causal half of the scores, 2 N T^2 for what their gradient gives r, 2 N D T
// for each product with S or dS; the rest has no N. dr is never stored: rotation back, the gate's part of dn
// and ReLU's gradient are the epilogue of the product that makes it.
#include "kernels/cuda/training/attention_training.h"

#include "kernels/cuda/damping.h"
#include "kernels/cuda/rotation.h"
#include "kernels/cuda/training/operands.h"
#include "kernels/cuda/training/rows.h"
#include "kernels/cuda/training/sums.h"

namespace bdh::cuda {

namespace {

constexpr int kMirror = 32;  // a tile of the square
constexpr int kMirrorRows = 8;

// ---- forwards ----

// Grid: (key tiles * score_splits, row tiles, heads).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) score(TrainingPass p) {
  using T = Tile<Element, mma>;
  const SegmentTile tile(p, T::rows);
  const int head = blockIdx.z, split = blockIdx.x % p.score_splits,
            n0 = blockIdx.x / p.score_splits * T::columns;
  if (n0 >= tile.m0 + T::rows || n0 >= p.length) return;
  const Share share(p.columns, p.score_splits, split, T::depth);
  const Matrix<Element> r = activations_of<Element>(p, p.r, segment_rows(p, tile.segment), head);
  float* part =
      p.score_parts + ((int64_t{split} * p.heads + head) * p.rows + tile.segment * p.length) * p.keys;
  product<mma, Along::k, Along::k>(r, r, tile.m0, n0, share.begin, share.end,
                                   [&](int row, int key, const float(&sums)[kVector]) {
                                     if (row < p.length && key < p.keys)
                                       store_vector(part + int64_t{row} * p.keys + key, sums);
                                   });
}

// scores = the sum of their parts, weighted, zero on and above the diagonal up to the tile's last column.
// Grid: (rows, heads).
template <class Element>
__global__ void mask(TrainingPass p) {
  constexpr int kTile = Tile<Element, Mma::warp>::rows;
  const int head = blockIdx.y, row = blockIdx.x % p.length;
  const int64_t at = (int64_t{head} * p.rows + blockIdx.x) * p.keys;
  const int64_t all = int64_t{p.heads} * p.rows * p.keys;
  const float* weights = p.weights_of(head);
  const int columns = min(row / kTile * kTile + kTile, p.keys);
  for (int key = kVector * threadIdx.x; key < columns; key += kVector * blockDim.x) {
    float sum[kVector] = {};
    for (int split = 0; split < p.score_splits && key < row; ++split) {
      float more[kVector];
      load_vector(p.score_parts + split * all + at + key, more);
#pragma unroll
      for (int j = 0; j < kVector; ++j) sum[j] += key + j < row ? more[j] : 0.0f;
    }
    for (int j = 0; weights && j < kVector && key + j < row; ++j) sum[j] *= weights[row - key - j];
    store_vector(static_cast<Element*>(p.scores) + at + key, sum);
  }
}

// own = scores x. Grid: (D tiles, row tiles, heads).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) apply(TrainingPass p) {
  using T = Tile<Element, mma>;
  const SegmentTile tile(p, T::rows);
  const int head = blockIdx.z, first = tile.segment * p.length;
  float* own = p.own + (int64_t{head} * p.rows + first) * p.sizes.stride;
  product<mma, Along::k, Along::other>(square_of<Element>(p, p.scores, tile.segment, head),
                                       rows_of<Element>(p, p.x_rows, segment_rows(p, tile.segment)), tile.m0,
                                       blockIdx.x * T::columns, 0, min(tile.m0 + T::rows, p.length),
                                       [&](int row, int column, const float(&sums)[kVector]) {
                                         if (row < p.length && column < p.sizes.stride)
                                           store_vector(own + int64_t{row} * p.sizes.stride + column, sums);
                                       });
}

// The sum of a row's kSplits parts.
__device__ inline float sum_of_parts(const TrainingPass& p, int head, int row, int d) {
  const int64_t all = int64_t{p.rows} * p.sizes.stride;
  const float* part = p.parts + head * kSplits * all + int64_t{row} * p.sizes.stride + d;
  float sum = 0;
  for (int split = 0; split < kSplits; ++split) sum += part[split * all];
  return sum;
}

// attended = norm(a). Grid: (rows, heads).
template <class Element>
__global__ void combine(TrainingPass p) {
  auto* a = reinterpret_cast<float*>(shared_memory());
  const int row = blockIdx.x, head = blockIdx.y;
  const int64_t at = (int64_t{head} * p.rows + row) * p.sizes.stride;
  const float* weights = p.weights_of(head);
  const float readout = weights ? weights[row % p.length] : 1.0f;
  for (int d = threadIdx.x; d < p.sizes.stride; d += blockDim.x) {
    float sum = p.own[at + d];
    if (p.reads_state) sum += sum_of_parts(p, head, row, d) * readout;
    a[d] = rounded<Element>(sum);
  }
  __syncthreads();
  const RowNorm norm = block_norm(a, p.sizes.width, a + p.sizes.stride);
  for (int d = threadIdx.x; d < p.sizes.stride; d += blockDim.x)
    static_cast<Element*>(p.attended)[at + d] = from_float<Element>(a[d]);
  if (threadIdx.x == 0) p.attended_scale[int64_t{head} * p.rows + row] = norm.scale;
}

// x by what it is worth behind the group. Grid: (rows, heads).
template <class Element>
__global__ void weigh(TrainingPass p) {
  const int row = blockIdx.x, head = blockIdx.y;
  const float weight = p.weights_of(head)[p.length - row % p.length];
  const Element* from = static_cast<const Element*>(p.x_rows) + int64_t{row} * p.sizes.stride;
  Element* to = static_cast<Element*>(p.x_weighed) + (int64_t{head} * p.rows + row) * p.sizes.stride;
  for (int d = threadIdx.x; d < p.sizes.stride; d += blockDim.x)
    to[d] = from_float<Element>(to_float(from[d]) * weight);
}

// state = (what is left of it) + r^T rows, for x or da of every head and segment. Grid: (neuron tiles, D
// tiles, heads * segments).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks)
    update(TrainingPass p, float* state, const void* rows, int64_t next_head, int64_t next_segment) {
  using T = Tile<Element, mma>;
  const int head = blockIdx.z % p.heads, segment = blockIdx.z / p.heads;
  const float* weights = p.weights_of(head);
  const float keep = weights ? weights[p.length] : 1.0f;
  const Matrix<Element> values{static_cast<const Element*>(rows) + head * next_head + segment * next_segment,
                               p.sizes.stride, p.length, p.sizes.stride};
  float* to = state + p.state_at(segment, head);
  product<mma, Along::other, Along::other>(activations_of<Element>(p, p.r, segment_rows(p, segment), head),
                                           values, blockIdx.x * T::rows, blockIdx.y * T::columns, 0, p.length,
                                           [&](int neuron, int column, const float(&sums)[kVector]) {
                                             if (neuron >= p.sizes.neurons || column >= p.sizes.stride)
                                               return;
                                             float* at = to + int64_t{neuron} * p.sizes.stride + column;
                                             float row[kVector];
                                             load_vector(at, row);
#pragma unroll
                                             for (int i = 0; i < kVector; ++i)
                                               row[i] = decayed(row[i], keep) + sums[i];
                                             store_vector(at, row);
                                           });
}

// ---- gradients ----

// da = the gradient of a, from the parts of that of attended. Grid: (rows, heads).
template <class Element>
__global__ void attended_gradient(TrainingPass p) {
  auto* a = reinterpret_cast<float*>(shared_memory());
  const int row = blockIdx.x, head = blockIdx.y, stride = p.sizes.stride;
  const int64_t of_head = int64_t{head} * p.rows + row;
  for (int d = threadIdx.x; d < stride; d += blockDim.x) a[d] = sum_of_parts(p, head, row, d);
  __syncthreads();
  const Element* y = static_cast<const Element*>(p.attended) + of_head * stride;
  block_norm_gradient(
      a, [&](int d) { return to_float(y[d]); }, p.attended_scale[of_head], p.sizes.width, a + stride);
  const float* weights = p.weights_of(head);
  const float weight = weights ? weights[row % p.length] : 1.0f;
  const int64_t of_set = (int64_t{head} * p.segments + row / p.length) * p.tokens + p.token_of(row);
  for (int d = threadIdx.x; d < stride; d += blockDim.x) {
    static_cast<Element*>(p.da)[of_head * stride + d] = from_float<Element>(a[d]);
    if (p.da_set) static_cast<Element*>(p.da_set)[of_set * stride + d] = from_float<Element>(a[d] * weight);
  }
}

// dscores = da x^T below the diagonal, weighted. Grid: (key tiles, row tiles, heads).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) score_gradient(TrainingPass p) {
  using T = Tile<Element, mma>;
  const SegmentTile tile(p, T::rows);
  const int head = blockIdx.z, n0 = blockIdx.x * T::columns;
  if (n0 >= tile.m0 + T::rows || n0 >= p.length) return;
  const Rows rows = segment_rows(p, tile.segment);
  const float* weights = p.weights_of(head);
  Element* square = static_cast<Element*>(p.dscores) + (int64_t{head} * p.rows + rows.first) * p.keys;
  product<mma, Along::k, Along::k>(head_rows_of<Element>(p, p.da, rows, head),
                                   rows_of<Element>(p, p.x_rows, rows), tile.m0, n0, 0, p.sizes.stride,
                                   [&](int row, int key, const float(&sums)[kVector]) {
                                     if (row >= p.length || key >= p.keys) return;
                                     float below[kVector];
#pragma unroll
                                     for (int j = 0; j < kVector; ++j) {
                                       below[j] = key + j < row ? sums[j] : 0.0f;
                                       if (weights && key + j < row) below[j] *= weights[row - key - j];
                                     }
                                     store_vector(square + int64_t{row} * p.keys + key, below);
                                   });
}

// The part above the diagonal, from that below it, and zeros behind the last row's column. Grid: (key tiles,
// row tiles of the segments, heads), kMirror wide.
template <class Element>
__global__ void mirror(TrainingPass p) {
  auto* tile = reinterpret_cast<float*>(shared_memory());  // (kMirror, kMirror + 1)
  const SegmentTile place(p, kMirror);
  const int row0 = place.m0, key0 = blockIdx.x * kMirror, x = threadIdx.x;
  if (key0 + kMirror <= row0) return;
  Element* square =
      static_cast<Element*>(p.dscores) + (int64_t{blockIdx.z} * p.rows + place.segment * p.length) * p.keys;
  for (int i = threadIdx.y; i < kMirror; i += kMirrorRows) {
    const int row = key0 + i, key = row0 + x;
    const bool below = row < p.length && key < row;
    tile[i * (kMirror + 1) + x] = below ? to_float(square[int64_t{row} * p.keys + key]) : 0.0f;
  }
  __syncthreads();
  for (int i = threadIdx.y; i < kMirror; i += kMirrorRows) {
    const int row = row0 + i, key = key0 + x;
    if (row < p.length && key < p.keys && key > row)
      square[int64_t{row} * p.keys + key] = from_float<Element>(tile[x * (kMirror + 1) + i]);
  }
}

// dn, from dr of eight neurons: rotated back, the gate's part added where `gated`, 0 where n is.
template <class Element>
__device__ inline void store_dn(const TrainingPass& p, int row, int head, int neuron, const float* dr,
                                bool gated) {
  const int64_t at = activation_at(p, row, head, neuron);
  const TokenPlace place(p.position + p.token_of(row), p.damped);
  float n[kVector], dn[kVector] = {};
  load_vector(static_cast<const Element*>(p.n) + at, n);
  if (gated) load_vector(static_cast<const Element*>(p.dn) + at, dn);
#pragma unroll
  for (int i = 0; i < kVector; i += 2) {
    float even, odd;
    unrotate_pair<Element>(dr[i], dr[i + 1], place, p.freqs + neuron + i, even, odd);
    dn[i] = n[i] > 0.0f ? dn[i] + even : 0.0f;
    dn[i + 1] = n[i + 1] > 0.0f ? dn[i + 1] + odd : 0.0f;
  }
  store_vector(static_cast<Element*>(p.dn) + at, dn);
}

// What S adds to dr, in the place of dv. Grid: (neuron tiles, row tiles, heads).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) readout_gradient(TrainingPass p) {
  using T = Tile<Element, mma>;
  const SegmentTile tile(p, T::rows);
  const int head = blockIdx.z, first = tile.segment * p.length;
  product<mma, Along::k, Along::k>(
      set_rows_of<Element>(p, tile.segment, head), state_of(p, p.s, tile.segment, head), tile.m0,
      blockIdx.x * T::columns, 0, p.sizes.stride, [&](int row, int neuron, const float(&sums)[kVector]) {
        if (row < p.length && neuron < p.columns)
          store_vector(static_cast<Element*>(p.dv) + activation_at(p, first + row, head, neuron), sums);
      });
}

// dn, from dr = dscores r and what S adds. Grid: (neuron tiles, row tiles, heads).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) rotated_gradient(TrainingPass p) {
  using T = Tile<Element, mma>;
  const SegmentTile tile(p, T::rows);
  const int head = blockIdx.z, first = tile.segment * p.length;
  product<mma, Along::k, Along::other>(
      square_of<Element>(p, p.dscores, tile.segment, head),
      activations_of<Element>(p, p.r, segment_rows(p, tile.segment), head), tile.m0, blockIdx.x * T::columns,
      0, p.length, [&](int row, int neuron, const float(&sums)[kVector]) {
        if (row >= p.length || neuron >= p.columns) return;
        float dr[kVector] = {};
        if (p.reads_state)
          load_vector(static_cast<const Element*>(p.dv) + activation_at(p, first + row, head, neuron), dr);
#pragma unroll
        for (int i = 0; i < kVector; ++i) dr[i] += sums[i];
        store_dn<Element>(p, first + row, head, neuron, dr, true);
      });
}

// own = scores^T da. Grid: (D tiles, row tiles, heads).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) value_gradient(TrainingPass p) {
  using T = Tile<Element, mma>;
  const SegmentTile tile(p, T::rows);
  const int head = blockIdx.z;
  const Rows rows = segment_rows(p, tile.segment);
  float* own = p.own + (int64_t{head} * p.rows + rows.first) * p.sizes.stride;
  product<mma, Along::other, Along::other>(
      square_of<Element>(p, p.scores, tile.segment, head), head_rows_of<Element>(p, p.da, rows, head),
      tile.m0, blockIdx.x * T::columns, tile.m0, p.length,
      [&](int row, int column, const float(&sums)[kVector]) {
        if (row < p.length && column < p.sizes.stride)
          store_vector(own + int64_t{row} * p.sizes.stride + column, sums);
      });
}

// dn of keys that later groups read, from dr = x dS^T. Grid: (neuron tiles, row tiles, heads).
template <class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks) key_gradient(TrainingPass p) {
  using T = Tile<Element, mma>;
  const SegmentTile tile(p, T::rows);
  const int head = blockIdx.z, first = tile.segment * p.length;
  const float* weights = p.weights_of(head);
  product<mma, Along::k, Along::k>(rows_of<Element>(p, p.x_rows, segment_rows(p, tile.segment)),
                                   state_of(p, p.state_gradient, tile.segment, head), tile.m0,
                                   blockIdx.x * T::columns, 0, p.sizes.stride,
                                   [&](int row, int neuron, const float(&sums)[kVector]) {
                                     if (row >= p.length || neuron >= p.columns) return;
                                     const float weight = weights ? weights[p.length - row] : 1.0f;
                                     float dr[kVector];
#pragma unroll
                                     for (int i = 0; i < kVector; ++i) dr[i] = sums[i] * weight;
                                     store_dn<Element>(p, first + row, head, neuron, dr, false);
                                   });
}

// ---- launches ----

Grid row_grid(const TrainingPass& p) {
  const int threads = row_threads(p.sizes.stride);
  return {dim3(static_cast<unsigned>(p.rows), static_cast<unsigned>(p.heads)),
          dim3(static_cast<unsigned>(threads)), row_shared(p.sizes, threads)};
}

template <class T>
Grid tile_grid(const TrainingPass& p, int columns, unsigned splits = 1, size_t staging = 0) {
  return {
      dim3(tiles(columns, T::columns) * splits, segment_tiles(p, T::rows), static_cast<unsigned>(p.heads)),
      dim3(kProductThreads), T::shared + staging};
}

void update_from(const TrainingPass& p, float* state, HeadRows rows, int64_t next_segment,
                 cudaStream_t stream) {
  with_operands(p, [&](auto element, auto chosen) {
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Element, mma>;
    const dim3 blocks(tiles(p.sizes.neurons, T::rows), tiles(p.sizes.stride, T::columns),
                      static_cast<unsigned>(p.heads * p.segments));
    launch(stream, {blocks, dim3(kProductThreads), T::shared}, update<Element, mma>, p, state, rows.rows,
           rows.next, next_segment);
  });
}

}  // namespace

void attend_training(const TrainingPass& p, cudaStream_t stream) {
  const Range range("attention");
  if (p.reads_state) multiply_state(p, p.s, stream);
  with_operands(p, [&](auto element, auto chosen) {
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Element, mma>;
    launch(stream, tile_grid<T>(p, p.keys, static_cast<unsigned>(p.score_splits)), score<Element, mma>, p);
    launch(stream, {row_grid(p).blocks, dim3(static_cast<unsigned>(row_threads(p.keys / kVector)))},
           mask<Element>, p);
    launch(stream, tile_grid<T>(p, p.sizes.stride), apply<Element, mma>, p);
    launch(stream, row_grid(p), combine<Element>, p);
  });
}

void attention_gradient(const TrainingPass& p, cudaStream_t stream) {
  const Range range("attention gradient");
  multiply_neurons(p, p.dv, p.encoder_v, p.parts, stream);
  with_operands(p, [&](auto element, auto chosen) {
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Element, mma>;
    launch(stream, row_grid(p), attended_gradient<Element>, p);
    launch(stream, tile_grid<T>(p, p.keys), score_gradient<Element, mma>, p);
    launch(stream,
           {dim3(tiles(p.keys, kMirror), segment_tiles(p, kMirror), static_cast<unsigned>(p.heads)),
            dim3(kMirror, kMirrorRows), kMirror * (kMirror + 1) * sizeof(float)},
           mirror<Element>, p);
    if (p.reads_state)
      launch(stream, tile_grid<T>(p, p.columns, 1, T::template staging<float>),
             readout_gradient<Element, mma>, p);
    launch(stream, tile_grid<T>(p, p.columns), rotated_gradient<Element, mma>, p);
    launch(stream, tile_grid<T>(p, p.sizes.stride), value_gradient<Element, mma>, p);
  });
  add_to_dx(p, {.own = true}, stream);
}

void update_state(const TrainingPass& p, cudaStream_t stream) {
  const Range range("state");
  const int64_t segment = int64_t{p.length} * p.sizes.stride;
  if (!p.weights) return update_from(p, p.s, {p.x_rows, 0}, segment, stream);
  with_element(p.precision, [&](auto element) { launch(stream, row_grid(p), weigh<decltype(element)>, p); });
  update_from(p, p.s, {p.x_weighed, int64_t{p.rows} * p.sizes.stride}, segment, stream);
}

void state_gradient(const TrainingPass& p, cudaStream_t stream) {
  const Range range("state gradient");
  with_operands(p, [&](auto element, auto chosen) {
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Element, mma>;
    launch(stream, tile_grid<T>(p, p.columns, 1, T::template staging<float>), key_gradient<Element, mma>, p);
  });
  multiply_state(p, p.state_gradient, stream);
  add_to_dx(p, {.parts = true, .weighted = true}, stream);
}

void update_state_gradient(const TrainingPass& p, cudaStream_t stream) {
  const int64_t segment = int64_t{p.tokens} * p.sizes.stride;
  const size_t element = size_of(p.precision);
  const auto* first = static_cast<const std::byte*>(p.da_set) +
                      static_cast<size_t>(p.start) * static_cast<size_t>(p.sizes.stride) * element;
  update_from(p, p.state_gradient, {first, p.segments * segment}, segment, stream);
}

}  // namespace bdh::cuda
