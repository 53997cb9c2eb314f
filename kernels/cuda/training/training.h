// Training on a GPU.
#pragma once

#include <memory>
#include <mutex>

#include "kernels/cuda/backend.h"
#include "kernels/cuda/state.h"
#include "kernels/training.h"

namespace bdh::cuda {

/// mutex: whoever holds it may queue on the backend's stream.
std::unique_ptr<Training> make_training(std::shared_ptr<const Queue> queue, std::shared_ptr<std::mutex> mutex,
                                        const Options& backend, const Dimensions& dims, const Tensor& freqs,
                                        const TrainingOptions& options);

}  // namespace bdh::cuda
