// Small models to be trained, and tokens for them.
#pragma once

#include <cstdint>
#include <vector>

#include "bdh/model/config.h"
#include "bdh/train/lora.h"
#include "tests/support/reference_training.h"

namespace bdh::test {

/// Normal parameters under their state_dict names and shapes, float32; the same for the same seed. attn.freqs
/// is there too.
TensorMap training_weights(const Config& config, uint64_t seed, float deviation = 0.15f);

/// Normal matrices of an adapter: none is zero.
TensorMap lora_matrices(const Config& config, const LoraOptions& options, uint64_t seed);

ReferenceModel reference_model(const Config& config, std::vector<float> horizons = {});

/// Tokens of B sequences of T, and what follows each; some targets are ignored where T > 3.
struct TrainingTokens {
  int64_t sequences = 0, tokens = 0;
  std::vector<int32_t> inputs, targets;
  MicroBatch batch(uint64_t number = 0) const;
};
TrainingTokens training_tokens(const Config& config, int64_t sequences, int64_t tokens, uint64_t seed);

}  // namespace bdh::test
