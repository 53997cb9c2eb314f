// Training on the CPU.
#pragma once

#include <memory>
#include <mutex>

#include "bdh/base/threads.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/training/kernels.h"
#include "kernels/training.h"

namespace bdh::cpu {

/// What the backend shares with its models in training, which may outlive whoever made it.
struct TrainingHost {
  std::shared_ptr<const Backend> owner;
  const Kernels& kernels;
  const TrainingKernels& training;
  ThreadPool& pool;
  std::mutex& mutex;
};

std::unique_ptr<Training> make_training(const TrainingHost& host, const Dimensions& dims, const Tensor& freqs,
                                        const TrainingOptions& options);

}  // namespace bdh::cpu
