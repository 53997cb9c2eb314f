// The gate in training: v, g and their gradients.
#pragma once

#include "kernels/cpu/training/pass.h"

namespace bdh::cpu {

/// g = n * relu(norm(a) Ev), dropped out, in the place of dv; mixed += g decoder.
void gate(const Pass& pass, const Heads& heads);

/// From the gradient of mixed: dv, the gate's part of dn, and the gradients of encoder_v and decoder.
void gate_gradient(const Pass& pass, const Heads& heads);

}  // namespace bdh::cpu
