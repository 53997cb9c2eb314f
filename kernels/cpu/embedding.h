// Embedding: a token to the first layer's input.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"

namespace bdh::cpu {

/// x (stride) = norm(embed[token]), with what an adapter adds where there is one.
void embed_token(const Kernels& kernels, const PackedParameters& packed, int32_t token,
                 const Adapter* adapter, float* x);

}  // namespace bdh::cpu
