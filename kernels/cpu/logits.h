// Logits: the last layer's output times lm_head.
#pragma once

#include "bdh/base/threads.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"

namespace bdh::cpu {

/// logits (rows, V) = x (rows, stride) lm_head. A row has the bits that it has alone.
void project_logits(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool, const float* x,
                    int64_t rows, float* logits);

/// logits += what an adapter, which may be null, adds to lm_head.
void adapt_logits(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool,
                  const Adapter* adapter, const float* x, int64_t rows, float* logits);

}  // namespace bdh::cpu
