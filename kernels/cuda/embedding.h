// The two ends of the model: tokens to x, and x to logits.
#pragma once

#include "kernels/cuda/chunk.h"
#include "kernels/cuda/step.h"

namespace bdh::cuda {

/// x = norm(embed[token]) for every sequence of a step, or every row of a chunk (x_operand as well).
void embed_step(const PackedParameters& packed, const StepBuffers& buffers, cudaStream_t stream);
void embed_chunk(const PackedParameters& packed, const ChunkBuffers& buffers, cudaStream_t stream);

/// logits (count, V) = x[rows[i]] lm_head; rows null: the first `count`. x (., stride) float32. early: as
/// Grid's.
void project_logits(const PackedParameters& packed, const float* x, const int32_t* rows, int count,
                    float* logits, cudaStream_t stream, bool early = false);

}  // namespace bdh::cuda
