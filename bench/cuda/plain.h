// The plainest kernels, a thread an element or a block a row: what stands between the products of the cuBLAS
// variants, and what measures the memory.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "bdh/base/dtype.h"
#include "kernels/cuda/prefill.h"

namespace bdh::bench {

/// Numbers between -1 and 1 that no cache and no power saving can profit from.
void fill_random(void* data, DType dtype, int64_t count, uint32_t seed, cudaStream_t stream);
/// Reads `bytes` (a multiple of 16) `rounds` times past the first-level cache. sink: 16 bytes, hardly ever
/// written.
void read_stream(const void* data, int64_t bytes, int rounds, void* sink, cudaStream_t stream);
/// A kernel of one thread that does nothing.
void do_nothing(cudaStream_t stream);
/// Keeps the GPU busy for that long, so that what follows is queued before it may start.
void wait_a_while(int64_t microseconds, cudaStream_t stream);

/// r = rotate(n): (R, H, columns), neurons [0, N) of each head.
void rotate_plain(const cuda::PackedParameters& packed, const cuda::PrefillBuffers& buffers,
                  cudaStream_t stream);
/// Zero on and above the diagonal: `count` matrices of tokens x columns, each `step` elements after the last.
void mask_plain(void* scores, DType dtype, int count, int64_t step, int tokens, int columns,
                cudaStream_t stream);
/// float32 to dtype.
void narrow_plain(const float* from, void* to, DType dtype, int64_t count, cudaStream_t stream);
/// attended = norm(part 0 of attention), for every row and head.
void norm_plain(const cuda::PackedParameters& packed, const cuda::PrefillBuffers& buffers,
                cudaStream_t stream);
/// n *= v, both (R, H, columns).
void gate_plain(const cuda::PrefillBuffers& buffers, const void* v, int64_t count, cudaStream_t stream);
/// x = norm(x + norm(y)), and x_operand. y (R, stride) float32.
void mix_plain(const cuda::PackedParameters& packed, const cuda::PrefillBuffers& buffers, const float* y,
               cudaStream_t stream);

}  // namespace bdh::bench
