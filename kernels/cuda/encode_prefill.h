// The fused encode of a chunk: n and r in one pass.
#pragma once

#include "kernels/cuda/prefill.h"

namespace bdh::cuda {

/// n = relu(x E_h) and r = rotate(n), for every row of the chunk.
void encode_prefill(const PackedParameters& packed, const PrefillBuffers& buffers, int layer,
                    cudaStream_t stream);

}  // namespace bdh::cuda
