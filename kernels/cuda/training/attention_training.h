// Attention in training: norm(a) of a group, the states, and all their gradients. For the group's rows and
// the heads.
#pragma once

#include "kernels/cuda/training/pass.h"

namespace bdh::cuda {

/// scores, and attended = norm(a) with what it divided by.
void attend_training(const TrainingPass& pass, cudaStream_t stream);

/// From dv, and dn as the gate left it: da and dn. dx += what the values get.
void attention_gradient(const TrainingPass& pass, cudaStream_t stream);

/// S takes the group's tokens.
void update_state(const TrainingPass& pass, cudaStream_t stream);

/// What the groups behind leave in dS for this one: dn of its keys, and dx += what its values get.
void state_gradient(const TrainingPass& pass, cudaStream_t stream);
/// dS takes the group's tokens.
void update_state_gradient(const TrainingPass& pass, cudaStream_t stream);

}  // namespace bdh::cuda
