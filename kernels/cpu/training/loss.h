// Both ends of the model in training: embedding, and logits with their loss.
#pragma once

#include "kernels/cpu/training/pass.h"

namespace bdh::cpu {

/// x of layer 0.
void embed_tokens(const Pass& pass);
/// Adds the gradient of the embedding, from dx.
void embedding_gradient(const Pass& pass);

/// The loss; where there is a gradient, that of lm_head, and dx of the last layer.
LossSum head_loss(const Pass& pass);

}  // namespace bdh::cpu
