// Numbers that host code hands to training kernels.
#include "kernels/training_numbers.h"

#include <cmath>

#include "kernels/training.h"

namespace bdh {

AdamWNumbers adamw_numbers(const AdamWStep& step, double decay) {
  const auto steps = static_cast<double>(step.step);
  return {static_cast<float>(1 - step.rate * decay),
          static_cast<float>(1 - step.beta1),
          static_cast<float>(step.beta2),
          static_cast<float>(1 - step.beta2),
          static_cast<float>(step.rate / (1 - std::pow(step.beta1, steps))),
          static_cast<float>(std::sqrt(1 - std::pow(step.beta2, steps))),
          static_cast<float>(step.epsilon),
          static_cast<float>(step.gradient_scale)};
}

DropoutNumbers dropout_numbers(const TrainingOptions& options, uint64_t micro_batch) {
  const uint64_t key = options.seed + 0x9E3779B97F4A7C15u * (micro_batch + 1);
  const double share = options.dropout;
  return {{static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)},
          static_cast<uint32_t>(std::lround(share * 65536)),
          static_cast<float>(1 / (1 - share))};
}

}  // namespace bdh
