// The dense ReLU products of a chunk, from norm(a) to the layer's output.
#pragma once

#include "kernels/cuda/chunk.h"

namespace bdh::cuda {

/// g = n relu(attended_h Ev_h), in n's place; x = norm(x + norm(g decoder)).
void gate_chunk(const PackedParameters& packed, const ChunkBuffers& buffers, int layer, cudaStream_t stream);

}  // namespace bdh::cuda
