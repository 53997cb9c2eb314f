// Elementwise and row kernels without any care for speed but whole, adjacent loads.
#include "bench/cuda/plain.h"

#include <algorithm>

#include "kernels/cuda/device.h"
#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/rotation.h"
#include "kernels/cuda/runtime.h"

namespace bdh::bench {

namespace {

using namespace bdh::cuda;

constexpr int kThreads = 256;

dim3 blocks_for(int64_t count) { return dim3(static_cast<unsigned>(rounded_up(count, kThreads) / kThreads)); }

__device__ inline int64_t this_thread() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }

template <class Element>
__global__ void fill(Element* data, int64_t count, uint32_t seed) {
  const int64_t i = this_thread();
  if (i >= count) return;
  uint32_t bits = (static_cast<uint32_t>(i) + seed) * 2654435761u;
  bits = (bits ^ (bits >> 15)) * 2246822519u;
  bits ^= bits >> 13;
  data[i] = from_float<Element>(static_cast<float>(bits >> 8) / 8388608.0f - 1.0f);
}

// Rounds are shifted by a block each, so that no multiprocessor meets its own lines again.
__global__ void __launch_bounds__(512) read_all(const uint4* data, int64_t count, int rounds, uint4* sink) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  uint32_t sum = 0;
  for (int round = 0; round < rounds; ++round) {
    const int64_t block = (int64_t{blockIdx.x} + round) % gridDim.x;
    int64_t i = block * blockDim.x + threadIdx.x;
    for (; i + 3 * step < count; i += 4 * step) {
      const uint4 a = data[i], b = data[i + step], c = data[i + 2 * step], d = data[i + 3 * step];
      sum += (a.x ^ a.y ^ a.z ^ a.w) + (b.x ^ b.y ^ b.z ^ b.w) + (c.x ^ c.y ^ c.z ^ c.w) +
             (d.x ^ d.y ^ d.z ^ d.w);
    }
    for (; i < count; i += step) sum += data[i].x ^ data[i].y ^ data[i].z ^ data[i].w;
  }
  if (sum == 0x9e3779b9u) *sink = make_uint4(sum, sum, sum, sum);
}

__global__ void nothing() {}

__global__ void spin(int64_t nanoseconds) {
#ifndef BDH_CUDA_EMULATED
  uint64_t start = 0, now = 0;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(start));
  do {
    asm volatile("mov.u64 %0, %globaltimer;" : "=l"(now));
  } while (now - start < static_cast<uint64_t>(nanoseconds));
#else
  (void)nanoseconds;
#endif
}

// A thread has a pair.
template <class Activation>
__global__ void rotate(Sizes sizes, PrefillBuffers buffers, const float* freqs) {
  const int64_t pair = this_thread(), pairs = int64_t{sizes.heads} * buffers.columns / 2;
  if (pair >= buffers.rows * pairs) return;
  const auto row = static_cast<int>(pair / pairs);
  const auto neuron = static_cast<int>(2 * pair % buffers.columns);
  const Activation* n = static_cast<const Activation*>(buffers.n) + 2 * pair;
  Activation* r = static_cast<Activation*>(buffers.r) + 2 * pair;
  if (neuron >= sizes.neurons) {
    r[0] = from_float<Activation>(0.0f), r[1] = from_float<Activation>(0.0f);
    return;
  }
  const float even = to_float(n[0]), odd = to_float(n[1]);
  const TokenPlace place(buffers.row[row].position, buffers.row[row].damped != 0);
  float r_even = 0, r_odd = 0;
  rotate_pair<Activation>(even, odd, place, freqs + neuron, r_even, r_odd);
  r[0] = from_float<Activation>(r_even), r[1] = from_float<Activation>(r_odd);
}

// Grid: (blocks of a matrix, matrices).
template <class Activation>
__global__ void mask(Activation* scores, int64_t step, int tokens, int columns) {
  const int64_t i = this_thread();
  if (i >= int64_t{tokens} * columns || i % columns < i / columns) return;
  scores[blockIdx.y * step + i] = from_float<Activation>(0.0f);
}

template <class Element>
__global__ void narrow(const float* from, Element* to, int64_t count) {
  const int64_t i = this_thread();
  if (i < count) to[i] = from_float<Element>(from[i]);
}

// Grid: (rows, heads).
template <class Activation>
__global__ void norm_rows(Sizes sizes, PrefillBuffers buffers) {
  auto* row = reinterpret_cast<float*>(shared_memory());
  const int64_t at = (int64_t{blockIdx.y} * buffers.rows + blockIdx.x) * sizes.stride;
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) row[d] = buffers.attention[at + d];
  __syncthreads();
  block_norm(row, sizes.width, row + sizes.stride);
  auto* attended = static_cast<Activation*>(buffers.attended);
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x)
    attended[at + d] = from_float<Activation>(row[d]);
}

template <class Activation>
__global__ void multiply_elements(Activation* n, const Activation* v, int64_t count) {
  const int64_t i = this_thread();
  if (i < count) n[i] = from_float<Activation>(to_float(n[i]) * to_float(v[i]));
}

// Grid: rows.
template <class Activation>
__global__ void mix(Sizes sizes, PrefillBuffers buffers, const float* y) {
  auto* row = reinterpret_cast<float*>(shared_memory());
  const int64_t at = int64_t{blockIdx.x} * sizes.stride;
  for (int d = threadIdx.x; d < sizes.stride; d += blockDim.x) row[d] = y[at + d];
  __syncthreads();
  block_residual(row, buffers.x + at, sizes.width, row + sizes.stride);
  auto* operand = static_cast<Activation*>(buffers.x_operand);
  for (int d = threadIdx.x; d < sizes.width; d += blockDim.x) {
    buffers.x[at + d] = row[d];
    operand[at + d] = from_float<Activation>(row[d]);
  }
}

Grid row_grid(const Sizes& sizes, dim3 blocks) {
  return {blocks, dim3(kThreads), row_shared(sizes, kThreads)};
}

}  // namespace

void fill_random(void* data, DType dtype, int64_t count, uint32_t seed, cudaStream_t stream) {
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    launch(stream, {blocks_for(count), dim3(kThreads)}, fill<Element>, static_cast<Element*>(data), count,
           seed);
  });
}

void read_stream(const void* data, int64_t bytes, int rounds, void* sink, cudaStream_t stream) {
  constexpr int kReadThreads = 512;
  constexpr int64_t kBlocks = 132 * 4;  // fill every multiprocessor of the largest GPUs once
  const int64_t count = bytes / static_cast<int64_t>(sizeof(uint4)),
                blocks = std::min(kBlocks, rounded_up(count, kReadThreads) / kReadThreads);
  launch(stream, {dim3(static_cast<unsigned>(blocks)), dim3(kReadThreads)}, read_all,
         static_cast<const uint4*>(data), count, rounds, static_cast<uint4*>(sink));
}

void do_nothing(cudaStream_t stream) { launch(stream, {dim3(1), dim3(1)}, nothing); }

void wait_a_while(int64_t microseconds, cudaStream_t stream) {
  launch(stream, {dim3(1), dim3(1)}, spin, 1000 * microseconds);
}

void rotate_plain(const PackedParameters& packed, const PrefillBuffers& buffers, cudaStream_t stream) {
  const int64_t pairs = int64_t{buffers.rows} * packed.sizes.heads * buffers.columns / 2;
  with_element(buffers.activations, [&](auto activation) {
    launch(stream, {blocks_for(pairs), dim3(kThreads)}, rotate<decltype(activation)>, packed.sizes, buffers,
           packed.freqs.as<const float>());
  });
}

void mask_plain(void* scores, DType dtype, int count, int64_t step, int tokens, int columns,
                cudaStream_t stream) {
  dim3 blocks = blocks_for(int64_t{tokens} * columns);
  blocks.y = static_cast<unsigned>(count);
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    launch(stream, {blocks, dim3(kThreads)}, mask<Element>, static_cast<Element*>(scores), step, tokens,
           columns);
  });
}

void narrow_plain(const float* from, void* to, DType dtype, int64_t count, cudaStream_t stream) {
  with_element(dtype, [&](auto element) {
    using Element = decltype(element);
    launch(stream, {blocks_for(count), dim3(kThreads)}, narrow<Element>, from, static_cast<Element*>(to),
           count);
  });
}

void norm_plain(const PackedParameters& packed, const PrefillBuffers& buffers, cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(buffers.rows), static_cast<unsigned>(packed.sizes.heads));
  with_element(buffers.activations, [&](auto activation) {
    launch(stream, row_grid(packed.sizes, blocks), norm_rows<decltype(activation)>, packed.sizes, buffers);
  });
}

void gate_plain(const PrefillBuffers& buffers, const void* v, int64_t count, cudaStream_t stream) {
  with_element(buffers.activations, [&](auto activation) {
    using Activation = decltype(activation);
    launch(stream, {blocks_for(count), dim3(kThreads)}, multiply_elements<Activation>,
           static_cast<Activation*>(buffers.n), static_cast<const Activation*>(v), count);
  });
}

void mix_plain(const PackedParameters& packed, const PrefillBuffers& buffers, const float* y,
               cudaStream_t stream) {
  with_element(buffers.activations, [&](auto activation) {
    launch(stream, row_grid(packed.sizes, dim3(static_cast<unsigned>(buffers.rows))),
           mix<decltype(activation)>, packed.sizes, buffers, y);
  });
}

}  // namespace bdh::bench
