// n and r in training, and what their gradients leave.
#pragma once

#include "kernels/cuda/training/pass.h"

namespace bdh::cuda {

/// n = relu(x E_h) and r = rotate(n), for the group's rows and the heads.
void encode_training(const TrainingPass& pass, cudaStream_t stream);

/// From dn: the gradient of the encoder, and dx += dn E^T.
void encode_gradient(const TrainingPass& pass, cudaStream_t stream);

}  // namespace bdh::cuda
