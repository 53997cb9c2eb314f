// A new model's weights: every number a function of the seed, its tensor's name and its index.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string_view>

#include "bdh/base/philox.h"
#include "bdh/model/frequencies.h"
#include "bdh/model/weights.h"
#include "bdh/train/trainer.h"

namespace bdh {

namespace {

constexpr double kDeviation = 0.02;
constexpr size_t kWords = 4;

// FNV-1a.
uint64_t hash_of(std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

// Two numbers of the standard normal distribution (Box and Muller, 1958).
std::array<double, 2> normal_pair(uint32_t first, uint32_t second) {
  const double radius = std::sqrt(-2 * std::log((first + 1.0) * 0x1p-32));
  const double angle = 2 * std::numbers::pi * (second * 0x1p-32);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

void fill_normal(std::span<float> values, uint64_t seed, uint64_t name) {
  for (size_t i = 0; i < values.size(); i += kWords) {
    const uint64_t block = i / kWords;
    const auto words = philox({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                               static_cast<uint32_t>(name), static_cast<uint32_t>(name >> 32)},
                              seed);
    const auto front = normal_pair(words[0], words[1]), back = normal_pair(words[2], words[3]);
    const std::array<double, kWords> four{front[0], front[1], back[0], back[1]};
    for (size_t j = 0; j < std::min(kWords, values.size() - i); ++j)
      values[i + j] = static_cast<float>(kDeviation * four[j]);
  }
}

}  // namespace

TensorMap initial_weights(const Config& config, uint64_t seed) {
  TensorMap weights;
  for (const auto& [name, shape] : parameter_shapes(config)) {
    std::byte* data = nullptr;
    const Tensor tensor = make_tensor(DType::f32, shape, &data);
    const std::span values(reinterpret_cast<float*>(data), static_cast<size_t>(tensor.numel()));
    if (name == kFreqs) {
      const std::vector<float> freqs = rotation_frequencies(config.neurons_per_head());
      std::copy(freqs.begin(), freqs.end(), values.begin());
    } else {
      fill_normal(values, seed, hash_of(name));
    }
    weights.emplace(name, tensor);
  }
  return weights;
}

}  // namespace bdh
