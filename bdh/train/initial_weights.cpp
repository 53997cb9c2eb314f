// A new model's weights and a new adapter's matrices: every number a function of the seed, its tensor's name
// and its index.
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
using Words = std::array<uint32_t, kWords>;
using Numbers = std::array<double, kWords>;

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

Numbers normal(const Words& words) {
  const auto front = normal_pair(words[0], words[1]), back = normal_pair(words[2], words[3]);
  return {front[0], front[1], back[0], back[1]};
}

// In [-1, 1).
Numbers uniform(const Words& words) {
  Numbers numbers{};
  for (size_t i = 0; i < kWords; ++i) numbers[i] = words[i] * 0x1p-31 - 1;
  return numbers;
}

// A tensor of random numbers, times `scale`.
Tensor random_tensor(const std::string& name, const Shape& shape, uint64_t seed, double scale,
                     Numbers (*distribution)(const Words&)) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(DType::f32, shape, &data);
  const std::span values(reinterpret_cast<float*>(data), static_cast<size_t>(tensor.numel()));
  const uint64_t hash = hash_of(name);
  for (size_t i = 0; i < values.size(); i += kWords) {
    const uint64_t block = i / kWords;
    const Words words = philox({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                                static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32)},
                               seed);
    const Numbers four = distribution(words);
    for (size_t j = 0; j < std::min(kWords, values.size() - i); ++j)
      values[i + j] = static_cast<float>(scale * four[j]);
  }
  return tensor;
}

Tensor frequencies(const Config& config, const Shape& shape) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(DType::f32, shape, &data);
  const std::vector<float> freqs = rotation_frequencies(config.neurons_per_head());
  std::copy(freqs.begin(), freqs.end(), reinterpret_cast<float*>(data));
  return tensor;
}

}  // namespace

TensorMap initial_weights(const Config& config, uint64_t seed) {
  TensorMap weights;
  for (const auto& [name, shape] : parameter_shapes(config)) {
    weights.emplace(name, name == kFreqs ? frequencies(config, shape)
                                         : random_tensor(name, shape, seed, kDeviation, normal));
  }
  return weights;
}

// PEFT's kaiming_uniform_(a = sqrt(5)) draws from [-1, 1) / sqrt(columns).
TensorMap initial_lora(const Config& config, const LoraOptions& options, uint64_t seed) {
  TensorMap matrices;
  for (const LoraTarget& target : lora_targets(config, options)) {
    const double bound = 1 / std::sqrt(static_cast<double>(target.shape.back()));
    const std::string name = target.parameter + kLoraA;
    std::byte* zeros = nullptr;
    matrices.emplace(name, random_tensor(name, target.a, seed, bound, uniform));
    matrices.emplace(target.parameter + kLoraB, make_tensor(DType::f32, target.b, &zeros));
  }
  return matrices;
}

}  // namespace bdh
