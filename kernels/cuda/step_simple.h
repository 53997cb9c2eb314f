// The one-token layer in its simplest form, for any width: the referee of the fast kernels and the first rung
// of the bench.
#pragma once

#include "kernels/cuda/packed.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/step.h"

namespace bdh::cuda {

/// As attention_step and gate_step together: one thread a sum, nothing fused.
void layer_step_simple(const PackedParameters& packed, const StepBuffers& buffers, int layer,
                       cudaStream_t stream);

}  // namespace bdh::cuda
