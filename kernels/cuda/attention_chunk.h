// Softmax-free attention of a chunk, from r and x to norm(a), and the state carried across. Knows nothing of
// sessions.
#pragma once

#include "kernels/cuda/chunk.h"

namespace bdh::cuda {

/// attended = norm(r S + tril(r r^T, -1) x), then S += r^T x, for every segment and head.
void attention_chunk(const PackedParameters& packed, const ChunkBuffers& buffers, int layer,
                     cudaStream_t stream);

}  // namespace bdh::cuda
