// Small random models on both backends, for the tests beside this file.
#pragma once

#include <optional>

#include "kernels/cpu/backend.h"
#include "kernels/cuda/backend.h"
#include "tests/support/models.h"

namespace bdh::test {

inline WeightsPointer on_gpu(const Config& config, std::optional<DType> dtype = {},
                             const cuda::Options& options = {}) {
  return random_weights(config, cuda::make_backend(0, options), dtype);
}

inline WeightsPointer on_cpu(const Config& config, std::optional<DType> dtype = {}) {
  return random_weights(config, cpu::make_backend({1, {}}), dtype);
}

}  // namespace bdh::test
