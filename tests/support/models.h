// Small models for tests: their sizes, tokens and random weights, the logits of two put side by side, and
// model directories.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "bdh/model/session.h"

namespace bdh::test {

Config config_of(int64_t layers, int64_t width, int64_t heads, int64_t multiplier, int64_t vocab = 256);
/// L 2, D 16, H 2, M 4, V 256: N 32.
Config tiny_config();
/// The same sizes, with weights for each layer.
Config untied(Config config);

using WeightsPointer = std::shared_ptr<const Weights>;

/// The same parameters for the same config; i8 and u8: rounded to 8 and 4 bits.
WeightsPointer random_weights(const Config& config, std::shared_ptr<Backend> backend,
                              std::optional<DType> dtype = {});
/// In [0, vocab), the same every time.
std::vector<int32_t> some_tokens(int64_t count, int64_t vocab);
ReadOptions in_form(Form form, int64_t chunk = 256);

void append(std::vector<float>& to, const std::vector<float>& from);
/// Largest difference as a share of the largest wanted number; infinite for another count or what is not
/// finite.
double relative_difference(const std::vector<float>& got, const std::vector<float>& want);

/// Writes config.json and model.safetensors with random weights.
void write_model(const std::filesystem::path& directory, const Config& config = tiny_config());

}  // namespace bdh::test
