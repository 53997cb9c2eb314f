// One layer in training: forwards, and backwards with everything but x computed again.
#pragma once

#include "kernels/cpu/training/pass.h"

namespace bdh::cpu {

/// x of the next layer, for all rows of the micro-batch.
void layer_forward(Pass& pass, int64_t layer);
/// dx of what the layer read, in the place of dx of what it gave; the gradients of its parameters are added
/// to.
void layer_backward(Pass& pass, int64_t layer);

}  // namespace bdh::cpu
