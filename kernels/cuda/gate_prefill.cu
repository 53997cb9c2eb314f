// Dense ReLU products of a chunk:  v = relu(attended_h Ev_h)   g = n v   x = norm(x + norm(g decoder))
//
// Flops of a layer: 2 D for each of R H N numbers, twice. With 128 rows almost every neuron is active in some
// row, so nothing is skipped. The gate is the first product's epilogue: v is never stored, g takes n's place.
// The second product sums over H N neurons in H kSplits parts that are added in order, so that few rows still
// fill the GPU.
#include "kernels/cuda/gate_prefill.h"

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/product.h"

namespace bdh::cuda {

namespace {

// Grid: (neuron tiles, row tiles, heads).
template <class Activation, class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks)
    gate(Sizes sizes, WeightRows<Element> encoder_v, PrefillBuffers buffers, int layer) {
  const int head = blockIdx.z, m0 = blockIdx.y * Tile<Activation, mma>::rows,
            n0 = blockIdx.x * Tile<Activation, mma>::columns;
  const Matrix<Activation> attended{
      static_cast<const Activation*>(buffers.attended) + int64_t{head} * buffers.rows * sizes.stride,
      sizes.stride, buffers.rows, sizes.stride};
  const Matrix<Element> rows =
      matrix_of(encoder_v.from(int64_t{head} * sizes.neurons), sizes.neurons, sizes.stride);
  unsigned positive = 0, gated = 0;
  product<mma, Along::k, Along::k>(
      attended, rows, m0, n0, 0, sizes.stride, [&](int row, int neuron, const float(&sums)[kVector]) {
        if (row >= buffers.rows || neuron >= buffers.columns) return;
        Activation* n = static_cast<Activation*>(buffers.n) +
                        (int64_t{row} * sizes.heads + head) * buffers.columns + neuron;
        float g[kVector];
        load_vector(n, g);
#pragma unroll
        for (int i = 0; i < kVector; ++i) {
          g[i] *= fmaxf(sums[i], 0.0f);
          positive += sums[i] > 0.0f;
          gated += g[i] != 0.0f;
        }
        store_vector(n, g);
      });
  if (!buffers.counts || positive == 0) return;
  atomicAdd(&buffers.counts[layer].v, static_cast<unsigned long long>(positive));
  atomicAdd(&buffers.counts[layer].g, static_cast<unsigned long long>(gated));
}

// Grid: (D tiles * kSplits, row tiles, heads).
template <class Activation, class Element, Mma mma>
__global__ void __launch_bounds__(kProductThreads, kProductBlocks)
    mix(Sizes sizes, WeightRows<Element> decoder, PrefillBuffers buffers) {
  const int head = blockIdx.z, split = blockIdx.x % kSplits;
  const int m0 = blockIdx.y * Tile<Activation, mma>::rows,
            n0 = blockIdx.x / kSplits * Tile<Activation, mma>::columns;
  const int share =
      static_cast<int>(rounded_up(tiles(buffers.columns, kSplits), Tile<Activation, mma>::depth));
  const int k0 = min(split * share, buffers.columns), k1 = min(k0 + share, buffers.columns);
  const Matrix<Activation> g{static_cast<const Activation*>(buffers.n) + int64_t{head} * buffers.columns,
                             int64_t{sizes.heads} * buffers.columns, buffers.rows, buffers.columns};
  const Matrix<Element> rows =
      matrix_of(decoder.from(int64_t{head} * sizes.neurons), sizes.neurons, sizes.stride);
  float* part = buffers.mixed + (int64_t{head} * kSplits + split) * buffers.rows * sizes.stride;
  product<mma, Along::k, Along::other>(g, rows, m0, n0, k0, k1,
                                       [&](int row, int column, const float(&sums)[kVector]) {
                                         if (row < buffers.rows && column < sizes.stride)
                                           store_vector(part + int64_t{row} * sizes.stride + column, sums);
                                       });
}

// x = norm(x + norm(the sum of the parts)). Grid: rows.
template <class Activation>
__global__ void residual(Sizes sizes, PrefillBuffers buffers) {
  auto* sum = reinterpret_cast<float*>(shared_memory());
  const int64_t at = int64_t{blockIdx.x} * sizes.stride, all = int64_t{buffers.rows} * sizes.stride;
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) {
    float total = 0;
    for (int i = 0; i < sizes.heads * kSplits; ++i) total += buffers.mixed[i * all + at + d];
    sum[d] = total;
  }
  __syncthreads();
  block_residual(sum, buffers.x + at, sizes.width, sum + sizes.stride);
  auto* operand = static_cast<Activation*>(buffers.x_operand);
  for (int d = threadIdx.x; d < sizes.width; d += blockDim.x) {
    buffers.x[at + d] = sum[d];
    operand[at + d] = from_float<Activation>(sum[d]);
  }
}

}  // namespace

void gate_prefill(const PackedParameters& packed, const PrefillBuffers& buffers, int layer,
                  cudaStream_t stream) {
  const Range range("gate");
  const Sizes& sizes = packed.sizes;
  const auto heads = static_cast<unsigned>(sizes.heads), rows = static_cast<unsigned>(buffers.rows);
  with_mma_and_weights(buffers, packed.dtype, [&](auto activation, auto element, auto chosen) {
    using Activation = decltype(activation);
    using Element = decltype(element);
    constexpr Mma mma = decltype(chosen)::value;
    using T = Tile<Activation, mma>;
    const unsigned row_tiles = tiles(buffers.rows, T::rows);
    constexpr size_t kShared = T::shared + T::template staging<Element>;
    const dim3 threads(kProductThreads);
    launch(stream, {dim3(tiles(buffers.columns, T::columns), row_tiles, heads), threads, kShared},
           gate<Activation, Element, mma>, sizes, rows_of<Element>(packed.layer(layer).encoder_v, sizes),
           buffers, layer);
    launch(stream, {dim3(tiles(sizes.stride, T::columns) * kSplits, row_tiles, heads), threads, kShared},
           mix<Activation, Element, mma>, sizes, rows_of<Element>(packed.layer(layer).decoder, sizes),
           buffers);
    launch(stream, {dim3(rows), threads, row_shared(sizes, kProductThreads)}, residual<Activation>, sizes,
           buffers);
  });
}

}  // namespace bdh::cuda
