// Attention in training: n, r and a of a group, the states, and all their gradients.
#pragma once

#include "kernels/cpu/training/pass.h"

namespace bdh::cpu {

/// cosines and sines of the group's positions, the same for every layer and head.
void set_phases(const Pass& pass);

/// n = relu(x E), r = rotate(n).
void encode(const Pass& pass, const Heads& heads);
/// scores, and norm(a) with what it divided by.
void attend(const Pass& pass, const Heads& heads);
/// S takes the group's tokens.
void update_state(const Pass& pass, const Heads& heads);

/// From dv, and dn as the gate left it: da, dn, and the gradients of encoder and x; S takes the group's
/// tokens where `updates`. da: (heads, set_rows, stride), the group's rows from `set_row` on.
void attention_gradient(const Pass& pass, const Heads& heads, int64_t set_rows, int64_t set_row,
                        bool updates);

/// What the chunks behind the group leave in dS, for its keys and values: the gradients of encoder and x;
/// then dS takes the group. `last`: there are none yet, and dS is whatever it was.
void state_gradient(const Pass& pass, const Heads& heads, int64_t set_rows, int64_t set_row, bool last);

}  // namespace bdh::cpu
