// The one-token layer without any care for speed: one thread for each sum, each sum in order, every row read.
#include "kernels/cuda/decode_reference.h"

#include "kernels/cuda/damping.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/rotation.h"

namespace bdh::cuda {

namespace {

template <class Element>
__device__ inline float dot(const WeightRows<Element>& weights, int64_t row, const float* x, int width) {
  float sum = 0;
  for (int d = 0; d < width; ++d) sum = fmaf(weights.number(row, d), x[d], sum);
  return sum;
}

// A thread has a pair of neurons: n and r.
template <class Element>
__global__ void encode(Sizes sizes, WeightRows<Element> encoder, const float* freqs, DecodeBuffers buffers) {
  const int64_t row = 2 * (int64_t{blockIdx.x} * blockDim.x + threadIdx.x);
  if (row >= sizes.rows()) return;
  const int neuron = static_cast<int>(row % sizes.neurons);
  const float* x = buffers.x + int64_t{blockIdx.y} * sizes.stride;
  const float even = fmaxf(dot(encoder, row, x, sizes.width), 0.0f);
  const float odd = fmaxf(dot(encoder, row + 1, x, sizes.width), 0.0f);
  const Sequence& sequence = buffers.sequences[blockIdx.y];
  const TokenPlace place(sequence.position, sequence.damped != 0);
  const int64_t at = blockIdx.y * sizes.rows() + row;
  buffers.n[at] = even, buffers.n[at + 1] = odd;
  rotate_pair<float>(even, odd, place, freqs + neuron, buffers.r[at], buffers.r[at + 1]);
}

// A block has a head, a thread some of its columns: a = r S, S += r x.
__global__ void readout(Sizes sizes, DecodeBuffers buffers, int layer) {
  auto* row = reinterpret_cast<float*>(shared_memory());
  const int head = blockIdx.x, sequence = blockIdx.y;
  const Scales scales = scales_of(buffers, buffers.sequences[sequence], sequence, head);
  float* s =
      buffers.sequences[sequence].s + (layer * sizes.rows() + int64_t{head} * sizes.neurons) * sizes.stride;
  const float* r = buffers.r + sequence * sizes.rows() + int64_t{head} * sizes.neurons;
  const float* x = buffers.x + int64_t{sequence} * sizes.stride;
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) {
    float a = 0;
    for (int j = 0; j < sizes.neurons; ++j) {
      float& at = s[int64_t{j} * sizes.stride + d];
      a = fmaf(r[j] * scales.readout, at, a);
      at = fmaf(r[j] * scales.update, x[d], at);
    }
    row[d] = a;
  }
  __syncthreads();
  block_norm(row, sizes.width, row + sizes.stride);
  float* attended = buffers.attended + (int64_t{sequence} * sizes.heads + head) * sizes.stride;
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) attended[d] = row[d];
}

// A thread has a neuron: g, in r's place.
template <class Element>
__global__ void gate(Sizes sizes, WeightRows<Element> encoder_v, DecodeBuffers buffers) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row >= sizes.rows()) return;
  const int64_t head = row / sizes.neurons, at = blockIdx.y * sizes.rows() + row;
  const float* attended = buffers.attended + (blockIdx.y * int64_t{sizes.heads} + head) * sizes.stride;
  buffers.r[at] = buffers.n[at] * fmaxf(dot(encoder_v, row, attended, sizes.width), 0.0f);
}

// How many n, pairs and g of a sequence are not zero. A block has a sequence.
__global__ void count_active(Sizes sizes, DecodeBuffers buffers, int layer) {
  auto* scratch = reinterpret_cast<int*>(shared_memory());
  const int64_t first = blockIdx.x * sizes.rows();
  int n = 0, pairs = 0, g = 0;
  for (int64_t row = first + 2 * threadIdx.x; row < first + sizes.rows(); row += 2 * blockDim.x) {
    const bool even = buffers.n[row] != 0.0f, odd = buffers.n[row + 1] != 0.0f;
    n += even + odd;
    pairs += even || odd;
    g += (buffers.r[row] != 0.0f) + (buffers.r[row + 1] != 0.0f);
  }
  n = block_sum(n, scratch);
  pairs = block_sum(pairs, scratch);
  g = block_sum(g, scratch);
  if (threadIdx.x == 0) buffers.totals[layer * buffers.count + blockIdx.x] = {n, pairs, g};
}

// A block has a sequence, a thread some of its columns: x = norm(x + norm(g decoder)).
template <class Element>
__global__ void mix(Sizes sizes, WeightRows<Element> decoder, DecodeBuffers buffers) {
  auto* row = reinterpret_cast<float*>(shared_memory());
  float* scratch = row + sizes.stride;
  const float* g = buffers.r + blockIdx.x * sizes.rows();
  float* x = buffers.x + int64_t{blockIdx.x} * sizes.stride;
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) {
    float sum = 0;
    for (int64_t j = 0; j < sizes.rows(); ++j) sum = fmaf(g[j], decoder.number(j, d), sum);
    row[d] = sum;
  }
  __syncthreads();
  block_norm(row, sizes.width, scratch);
  for (int d = threadIdx.x; d < sizes.width; d += blockDim.x) row[d] += x[d];
  __syncthreads();
  block_norm(row, sizes.width, scratch);
  for (int d = threadIdx.x; d < sizes.width; d += blockDim.x) x[d] = row[d];
}

}  // namespace

void decode_layer_reference(const PackedParameters& packed, const DecodeBuffers& buffers, int layer,
                            cudaStream_t stream) {
  const Sizes& sizes = packed.sizes;
  const auto count = static_cast<unsigned>(buffers.count), heads = static_cast<unsigned>(sizes.heads);
  const auto blocks = static_cast<unsigned>(rounded_up(sizes.rows(), kDecodeThreads) / kDecodeThreads);
  const size_t shared = static_cast<size_t>(sizes.stride + kDecodeThreads / kWarp) * sizeof(float);
  const dim3 threads(kDecodeThreads);
  with_weights(packed.dtype, [&](auto element) {
    using Element = decltype(element);
    launch(stream, {dim3(blocks, count), threads}, encode<Element>, sizes,
           rows_of<Element>(packed.layer(layer).encoder, sizes), packed.freqs.as<const float>(), buffers);
    launch(stream, {dim3(heads, count), threads, shared}, readout, sizes, buffers, layer);
    launch(stream, {dim3(blocks, count), threads}, gate<Element>, sizes,
           rows_of<Element>(packed.layer(layer).encoder_v, sizes), buffers);
    launch(stream, {dim3(count), threads, shared}, count_active, sizes, buffers, layer);
    launch(stream, {dim3(count), threads, shared}, mix<Element>, sizes,
           rows_of<Element>(packed.layer(layer).decoder, sizes), buffers);
  });
}

}  // namespace bdh::cuda
