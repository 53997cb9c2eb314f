// The sparse ReLU products of one token a sequence, from norm(a) to the layer's output.
#pragma once

#include "kernels/cuda/decode.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/runtime.h"

namespace bdh::cuda {

/// v = relu(norm(a) Ev_h) and g = n v where n is active, y = g decoder where g is; x = norm(x + norm(y)).
void gate_decode(const PackedParameters& packed, const DecodeBuffers& buffers, int layer,
                 cudaStream_t stream);

}  // namespace bdh::cuda
