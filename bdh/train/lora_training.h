// Training of a LoRA adapter: a Training whose parameters are the adapter's matrices alone.
#pragma once

#include <memory>

#include "bdh/train/lora.h"
#include "kernels/training.h"

namespace bdh {

/// What `model` computes for the base weights with the adapter merged in, and gradients of the matrices: with
/// W = base + scale B A, dA = scale B^T dW and dB = scale dW A^T. Planes lie on the CPU. Throws
/// Error(invalid_argument) as lora_targets, Error(bad_file) for a base that is not of this config.
std::unique_ptr<Training> new_lora_training(std::unique_ptr<Training> model, TensorMap base,
                                            const Config& config, const LoraOptions& options);

}  // namespace bdh
