// Embedding, loss and their gradients in training.
#pragma once

#include "kernels/cuda/training/pass.h"

namespace bdh::cuda {

/// x = norm(embed[token]), for every row of the micro-batch.
void embed_training(const TrainingPass& pass, cudaStream_t stream);
/// The losses of pass.logit_count rows; with a gradient their dx, and that of lm_head.
void take_loss(const TrainingPass& pass, cudaStream_t stream);
/// The gradient of the embedding, from dx; distinct: tokens that occur. dx is lost.
void embedding_gradient(const TrainingPass& pass, int distinct, cudaStream_t stream);

}  // namespace bdh::cuda
