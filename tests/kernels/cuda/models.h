// Small random models on both backends, for the tests beside this file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bdh/model/session.h"
#include "kernels/cpu/backend.h"
#include "kernels/cuda/backend.h"
#include "tests/support/backends.h"

namespace bdh {

using WeightsPointer = std::shared_ptr<const Weights>;

inline Config config_of(int64_t layers, int64_t width, int64_t heads, int64_t multiplier, int64_t vocab) {
  Config config;
  config.n_layer = layers;
  config.n_embd = width;
  config.n_head = heads;
  config.mlp_internal_dim_multiplier = multiplier;
  config.vocab_size = vocab;
  return config;
}

inline WeightsPointer on_gpu(const Config& config, std::optional<DType> dtype = {},
                             const cuda::Options& options = {}) {
  return std::make_shared<Weights>(config, random_state_dict(config, 3), cuda::make_backend(0, options),
                                   dtype);
}

inline WeightsPointer on_cpu(const Config& config, std::optional<DType> dtype = {}) {
  return std::make_shared<Weights>(config, random_state_dict(config, 3), cpu::make_backend({1, {}}), dtype);
}

inline std::vector<int32_t> some_tokens(int64_t count, int64_t vocab) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>((i * i * 7 + 3 * i + 1) % vocab));
  return tokens;
}

inline ReadOptions in_form(Form form, int64_t chunk = 256) {
  ReadOptions options;
  options.form = form;
  options.chunk = chunk;
  return options;
}

inline void append(std::vector<float>& to, const std::vector<float>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace bdh
