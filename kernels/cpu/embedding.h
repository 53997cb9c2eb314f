// The ends of the model, shared by every way of reading: tokens to x, a layer's residual, x to logits.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"

namespace bdh::cpu {

/// x (stride) = norm(embed[token]).
void embed_token(const Kernels& kernels, const PackedParameters& packed, int32_t token, float* x);

/// x = norm(x + norm(mixed)); mixed is overwritten. Both (stride).
void add_and_norm(const Kernels& kernels, const PackedParameters& packed, float* mixed, float* x);

/// logits (rows, V) = x (rows, stride) lm_head.
void project_logits(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool, const float* x,
                    int64_t rows, float* logits);

}  // namespace bdh::cpu
