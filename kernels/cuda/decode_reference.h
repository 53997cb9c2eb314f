// The one-token layer in its simplest form, for any width: the reference of the fast kernels and the first
// variant of the bench.
#pragma once

#include "kernels/cuda/decode.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/runtime.h"

namespace bdh::cuda {

/// As attention_decode and gate_decode together: one thread a sum, nothing fused.
void decode_layer_reference(const PackedParameters& packed, const DecodeBuffers& buffers, int layer,
                            cudaStream_t stream);

}  // namespace bdh::cuda
