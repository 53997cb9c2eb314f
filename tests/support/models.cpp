// Small random models, in memory and as directories.
#include "tests/support/models.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "bdh/formats/safetensors.h"
#include "bdh/model/quantization.h"
#include "tests/support/temporary.h"

namespace bdh::test {

Config config_of(int64_t layers, int64_t width, int64_t heads, int64_t multiplier, int64_t vocab) {
  Config config;
  config.n_layer = layers;
  config.n_embd = width;
  config.n_head = heads;
  config.mlp_internal_dim_multiplier = multiplier;
  config.vocab_size = vocab;
  return config;
}

Config tiny_config() { return config_of(2, 16, 2, 4); }

Config untied(Config config) {
  config.tie_layers = false;
  return config;
}

WeightsPointer random_weights(const Config& config, std::shared_ptr<Backend> backend,
                              std::optional<DType> dtype) {
  TensorMap state_dict = random_state_dict(config, 3);
  if (dtype != DType::i8 && dtype != DType::u8)
    return std::make_shared<Weights>(config, std::move(state_dict), std::move(backend), dtype);
  const int64_t bits = dtype == DType::i8 ? 8 : 4;
  return std::make_shared<Weights>(with_weight_bits(config, bits), quantized(config, state_dict, bits),
                                   std::move(backend));
}

std::vector<int32_t> some_tokens(int64_t count, int64_t vocab) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>((i * i * 7 + 3 * i + 1) % vocab));
  return tokens;
}

ReadOptions in_form(Form form, int64_t chunk) {
  ReadOptions options;
  options.form = form;
  options.chunk = chunk;
  return options;
}

void append(std::vector<float>& to, const std::vector<float>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

double relative_difference(const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) return INFINITY;
  double difference = 0, largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double here = std::abs(double{got[i]} - double{want[i]});
    if (!std::isfinite(here)) return INFINITY;
    difference = std::max(difference, here);
    largest = std::max(largest, std::abs(double{want[i]}));
  }
  return difference / largest;
}

void write_model(const std::filesystem::path& directory, const Config& config) {
  write_file(directory / "config.json", config.to_json().dump(2));
  write_safetensors(directory / "model.safetensors", random_state_dict(config, 7), {{"format_version", "1"}});
}

}  // namespace bdh::test
