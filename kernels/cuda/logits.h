// From x to the logits.
#pragma once

#include "kernels/cuda/packed.h"
#include "kernels/cuda/runtime.h"

namespace bdh::cuda {

/// logits (count, V) = x[rows[i]] lm_head; rows null: the first `count`. x (., stride) float32. overlap: as
/// Grid's.
void project_logits(const PackedParameters& packed, const float* x, const int32_t* rows, int count,
                    float* logits, cudaStream_t stream, bool overlap = false);

}  // namespace bdh::cuda
