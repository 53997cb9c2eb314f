// The gate, the residual and their gradients in training.
#pragma once

#include "kernels/cuda/training/pass.h"

namespace bdh::cuda {

/// x of the group as operands; backwards the gradient of g decoder as well, from dx.
void begin_group(const TrainingPass& pass, bool backward, cudaStream_t stream);

/// g = n * relu(attended Ev), dropped out, in the place of n; the heads' parts of g decoder.
void gate_training(const TrainingPass& pass, cudaStream_t stream);
/// x of the next layer, and what its norms divided by, from the parts of all heads.
void finish_group(const TrainingPass& pass, cudaStream_t stream);

/// dx_next = the gradient of x + y, for every row of the micro-batch.
void begin_dx(const TrainingPass& pass, cudaStream_t stream);
/// dv, the gate's part of dn, and the gradients of the decoder and encoder_v.
void gate_gradient(const TrainingPass& pass, cudaStream_t stream);

}  // namespace bdh::cuda
