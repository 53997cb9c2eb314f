// The dense ReLU products of a chunk, from norm(a) to the layer's output.
#pragma once

#include "kernels/cuda/prefill.h"

namespace bdh::cuda {

/// g = n relu(attended_h Ev_h), in n's place; x = norm(x + norm(g decoder)).
void gate_prefill(const PackedParameters& packed, const PrefillBuffers& buffers, int layer,
                  cudaStream_t stream);

}  // namespace bdh::cuda
