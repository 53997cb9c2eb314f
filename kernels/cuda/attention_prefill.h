// Softmax-free attention of a chunk, from r and x to norm(a), and the state carried across.
#pragma once

#include "kernels/cuda/prefill.h"

namespace bdh::cuda {

/// attended = norm(r S + tril(r r^T, -1) x), then S += r^T x, for every segment and head.
void attention_prefill(const PackedParameters& packed, const PrefillBuffers& buffers, int layer,
                       cudaStream_t stream);

/// The end of it: attended = norm of the sum of the parts in buffers.attention.
void combine_attention(const PackedParameters& packed, const PrefillBuffers& buffers, cudaStream_t stream);

}  // namespace bdh::cuda
