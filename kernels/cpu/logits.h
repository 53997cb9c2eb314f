// Logits: the last layer's output times lm_head.
#pragma once

#include "bdh/base/threads.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"

namespace bdh::cpu {

/// logits (rows, V) = x (rows, stride) lm_head, with what an adapter adds where there is one.
void project_logits(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool, const float* x,
                    int64_t rows, const Adapter* adapter, float* logits);

}  // namespace bdh::cpu
