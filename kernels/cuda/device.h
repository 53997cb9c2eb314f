// What every kernel uses: elements as floats, sums in a fixed order, shared memory. Device code.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/sizes.h"

#ifdef BDH_CUDA_EMULATED
#include "emulator.h"
#endif

namespace bdh::cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

/// The block's shared memory; the launch says how much there is.
__device__ inline unsigned char* shared_memory() {
#ifdef BDH_CUDA_EMULATED
  return emulation::shared_memory();
#else
  extern __shared__ __align__(128) unsigned char bdh_shared[];
  return bdh_shared;
#endif
}

/// First in every kernel that may start early (Grid::overlap): lets the next kernel start too, and waits
/// until all that was queued before this one has ended.
__device__ inline void follow_previous() {
#if defined(BDH_CUDA_EMULATED) || (defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900)
  cudaTriggerProgrammaticLaunchCompletion();
  cudaGridDependencySynchronize();
#endif
}

__device__ inline float to_float(float value) { return value; }
__device__ inline float to_float(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline float to_float(__half value) { return __half2float(value); }

template <class Element>
__device__ inline Element from_float(float value);
template <>
__device__ inline float from_float<float>(float value) {
  return value;
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float value) {
  return __float2bfloat16(value);
}
template <>
__device__ inline __half from_float<__half>(float value) {
  return __float2half(value);
}

/// Eight elements as they are stored. Reading them is one thing and making floats of them another: what is
/// read first and unpacked later does not wait in between.
template <class Element>
struct Stored {
  uint4 words[sizeof(Element) * kVector / sizeof(uint4)];
};

/// `from` is aligned to 16 bytes.
template <class Element>
__device__ inline Stored<Element> load_stored(const Element* from) {
  Stored<Element> vector;
#pragma unroll
  for (size_t i = 0; i < sizeof vector / sizeof(uint4); ++i)
    vector.words[i] = reinterpret_cast<const uint4*>(from)[i];
  return vector;
}

__device__ inline float2 pair_of(uint32_t bits, const __nv_bfloat16*) {
  return make_float2(__uint_as_float(bits << 16), __uint_as_float(bits & 0xffff0000u));
}

__device__ inline float2 pair_of(uint32_t bits, const __half*) {
  __half2 pair;
  __builtin_memcpy(&pair, &bits, sizeof pair);
  return __half22float2(pair);
}

__device__ inline void unpack(const Stored<float>& vector, float (&to)[kVector]) {
  __builtin_memcpy(to, vector.words, sizeof to);
}

template <class Half>
__device__ inline void unpack(const Stored<Half>& vector, float (&to)[kVector]) {
  const uint4 bits = vector.words[0];
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = pair_of(words[i], static_cast<const Half*>(nullptr));
    to[2 * i] = pair.x, to[2 * i + 1] = pair.y;
  }
}

template <class Element>
__device__ inline void load_vector(const Element* from, float (&to)[kVector]) {
  unpack(load_stored(from), to);
}

/// The same for numbers that are used once: they leave the second-level cache to the weights.
__device__ inline void load_once(const float* from, float (&to)[kVector]) {
  const float4 low = __ldcs(reinterpret_cast<const float4*>(from)),
               high = __ldcs(reinterpret_cast<const float4*>(from + 4));
  to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
  to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

__device__ inline void store_once(float* to, const float (&from)[kVector]) {
  __stcs(reinterpret_cast<float4*>(to), make_float4(from[0], from[1], from[2], from[3]));
  __stcs(reinterpret_cast<float4*>(to + 4), make_float4(from[4], from[5], from[6], from[7]));
}

__device__ inline void store_vector(float* to, const float (&from)[kVector]) {
  *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
  *reinterpret_cast<float4*>(to + 4) = make_float4(from[4], from[5], from[6], from[7]);
}

template <class Half>
__device__ inline void store_vector(Half* to, const float (&from)[kVector]) {
  Half rounded[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) rounded[i] = from_float<Half>(from[i]);
  uint4 bits;
  __builtin_memcpy(&bits, rounded, sizeof bits);
  *reinterpret_cast<uint4*>(to) = bits;
}

/// The sum over a warp, in every lane.
template <class Number>
__device__ inline Number warp_sum(Number value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(kAllLanes, value, distance);
  return value;
}

/// Eight sums over a warp at once, with 9 shuffles instead of 40: lane l is left with the sum of values[l /
/// 4].
__device__ inline float warp_sums(float (&values)[8]) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int half = 4, distance = 16; half > 0; half /= 2, distance /= 2) {
    const bool upper = (lane & distance) != 0;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float given = upper ? values[i] : values[i + half];
      const float kept = upper ? values[i + half] : values[i];
      values[i] = kept + __shfl_xor_sync(kAllLanes, given, distance);
    }
  }
  float sum = values[0];
  sum += __shfl_xor_sync(kAllLanes, sum, 2);
  sum += __shfl_xor_sync(kAllLanes, sum, 1);
  return sum;
}

/// The sum over a block, in every thread; `scratch` holds one number for each warp and may be used again
/// afterwards.
template <class Number>
__device__ inline Number block_sum(Number value, Number* scratch) {
  const int warps = (blockDim.x + kWarp - 1) / kWarp;
  value = warp_sum(value);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) scratch[threadIdx.x / kWarp] = value;
  __syncthreads();
  Number sum = 0;
  for (int i = 0; i < warps; ++i) sum += scratch[i];
  return sum;
}

/// What a norm subtracted, and what it multiplied with.
struct RowNorm {
  float mean, scale;
};

/// norm(row) in place: (x - mean) / sqrt(variance + 1e-5) over the first `width` elements, which the block's
/// threads hold in shared memory. Call with all threads; the row is written when it returns.
__device__ inline RowNorm block_norm(float* row, int width, float* scratch) {
  float sum = 0;
  for (int d = threadIdx.x; d < width; d += blockDim.x) sum += row[d];
  const float mean = block_sum(sum, scratch) / static_cast<float>(width);
  float squares = 0;
  for (int d = threadIdx.x; d < width; d += blockDim.x) squares = fmaf(row[d] - mean, row[d] - mean, squares);
  const float variance = block_sum(squares, scratch) / static_cast<float>(width);
  const float scale = 1.0f / sqrtf(variance + 1e-5f);
  for (int d = threadIdx.x; d < width; d += blockDim.x) row[d] = (row[d] - mean) * scale;
  __syncthreads();
  return {mean, scale};
}

/// row = norm(x + norm(row)), as block_norm.
__device__ inline void block_residual(float* row, const float* x, int width, float* scratch) {
  block_norm(row, width, scratch);
  for (int d = threadIdx.x; d < width; d += blockDim.x) row[d] += x[d];
  __syncthreads();
  block_norm(row, width, scratch);
}

/// Counts a block's arrival; true in every thread of the block that arrives as the last of `expected`, which
/// then sees what the others wrote before they arrived. The counter is zero again afterwards.
__device__ inline bool arrives_last(unsigned* counter, unsigned expected, unsigned* shared_flag) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const bool last = atomicAdd(counter, 1u) == expected - 1;
    if (last) *counter = 0;
    *shared_flag = last;
  }
  __syncthreads();
  const bool last = *shared_flag != 0;
  if (last) __threadfence();
  return last;
}

}  // namespace bdh::cuda
