// Small models to be trained, and tokens for them.
#include "tests/support/training_models.h"

#include <random>
#include <utility>

#include "bdh/model/frequencies.h"
#include "bdh/model/weights.h"

namespace bdh::test {

namespace {

// Names and shapes stay.
TensorMap drawn_anew(TensorMap tensors, uint64_t seed, float deviation) {
  std::mt19937_64 bits(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  for (auto& [name, tensor] : tensors) {
    if (name == "attn.freqs") continue;
    std::byte* data = nullptr;
    Tensor drawn = make_tensor(DType::f32, tensor.shape, &data);
    for (int64_t i = 0; i < drawn.numel(); ++i) reinterpret_cast<float*>(data)[i] = normal(bits);
    tensor = drawn;
  }
  return tensors;
}

}  // namespace

TensorMap training_weights(const Config& config, uint64_t seed, float deviation) {
  return drawn_anew(random_state_dict(config, 1), seed, deviation);
}

TensorMap lora_matrices(const Config& config, const LoraOptions& options, uint64_t seed) {
  return drawn_anew(initial_lora(config, options, 0), seed, 0.2f);
}

ReferenceModel reference_model(const Config& config, std::vector<float> horizons) {
  return {config.dimensions(), rotation_frequencies(config.neurons_per_head()), std::move(horizons)};
}

MicroBatch TrainingTokens::batch(uint64_t number) const {
  MicroBatch out;
  out.sequences = sequences;
  out.tokens = tokens;
  out.inputs = inputs;
  out.targets = targets;
  out.number = number;
  return out;
}

TrainingTokens training_tokens(const Config& config, int64_t sequences, int64_t tokens, uint64_t seed) {
  TrainingTokens out{sequences, tokens, {}, {}};
  std::mt19937_64 bits(seed);
  std::uniform_int_distribution<int32_t> token(0, static_cast<int32_t>(config.vocab_size) - 1);
  for (int64_t i = 0; i < sequences * tokens; ++i) {
    out.inputs.push_back(token(bits));
    out.targets.push_back(tokens > 3 && i % 7 == 3 ? -1 : token(bits));
  }
  return out;
}

}  // namespace bdh::test
