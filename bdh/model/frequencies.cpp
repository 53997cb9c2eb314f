// The frequencies of rotation: the formula, and what repositories have made of it.
#include "bdh/model/frequencies.h"

#include <cmath>
#include <cstring>
#include <numbers>
#include <optional>

#include "bdh/base/error.h"

namespace bdh {
namespace {

using Frequencies = std::vector<float>;

constexpr int kMostSteps = 3;  // of growing

constexpr auto kTurn = static_cast<float>(2 * std::numbers::pi);

// PyTorch computes every step in float32 and rounds after each; its vectorised pow may be one unit in the
// last place off the nearest float32, differently on different processors. This takes the nearest.
float frequency(size_t neuron, size_t neurons, double base) {
  const float exponent = static_cast<float>(neuron / 2 * 2) / static_cast<float>(neurons);
  return 1.0f / static_cast<float>(std::pow(base, double{exponent})) / kTurn;
}

// asb-42/bdh gives new neurons of a grown model 2^(16^x) where the formula has (2^16)^x.
float grown_frequency(size_t neuron, size_t neurons) {
  const float exponent = static_cast<float>(neuron / 2 * 2) / static_cast<float>(neurons);
  const auto inner = static_cast<float>(std::pow(16.0, double{exponent}));
  return 1.0f / static_cast<float>(std::pow(2.0, double{inner})) / kTurn;
}

// Frequencies of 16 bits, compared with what they may have been.
class Rounded {
 public:
  explicit Rounded(const Tensor& stored) : dtype_(stored.dtype), bits_(static_cast<size_t>(stored.numel())) {
    copy_row_major(stored, 0, stored.numel(), reinterpret_cast<std::byte*>(bits_.data()));
  }

  size_t size() const { return bits_.size(); }

  // PyTorch's own value may lie one float32 beside this one, and be rounded to the other side.
  bool is(size_t place, float value) const {
    constexpr float kInfinity = HUGE_VALF;
    return bits_[place] == round(value) || bits_[place] == round(std::nextafter(value, kInfinity)) ||
           bits_[place] == round(std::nextafter(value, -kInfinity));
  }

  // The `count` from `first` on are those of the formula.
  bool is_formula(size_t first, size_t count) const {
    for (size_t i = 0; i < count; ++i)
      if (!is(first + i, frequency(i, count, kRotationBase))) return false;
    return true;
  }

 private:
  uint16_t round(float value) const { return dtype_ == DType::bf16 ? f32_to_bf16(value) : f32_to_f16(value); }

  DType dtype_;
  std::vector<uint16_t> bits_;
};

// Some models of the formula side by side, as gh-arnab21/BDH_interpretability merges them; also one.
std::optional<Frequencies> merged(const Rounded& rounded) {
  constexpr size_t kMostModels = 64;
  for (size_t models = 1; models <= kMostModels && models <= rounded.size() / 2; ++models) {
    const size_t size = rounded.size() / models;
    size_t same = 0;
    while (same < models && rounded.size() % models == 0 && rounded.is_formula(same * size, size)) ++same;
    if (same < models) continue;
    const Frequencies one = rotation_frequencies(static_cast<int64_t>(size));
    Frequencies all;
    for (size_t i = 0; i < models; ++i) all.insert(all.end(), one.begin(), one.end());
    return all;
  }
  return {};
}

// The first `size` are the formula's for a model of that size, or were grown to it, `steps` times at most.
std::optional<Frequencies> grown(const Rounded& rounded, size_t size, int steps) {
  if (rounded.is_formula(0, size)) return rotation_frequencies(static_cast<int64_t>(size));
  size_t old_size = size;
  while (steps > 0 && old_size > 2 && rounded.is(old_size - 1, grown_frequency(old_size - 1, size)) &&
         rounded.is(old_size - 2, grown_frequency(old_size - 2, size))) {
    old_size -= 2;
    auto frequencies = grown(rounded, old_size, steps - 1);
    if (!frequencies) continue;
    for (size_t i = old_size; i < size; ++i) frequencies->push_back(grown_frequency(i, size));
    return frequencies;
  }
  return {};
}

}  // namespace

std::vector<float> rotation_frequencies(int64_t neurons, double base) {
  Frequencies frequencies(static_cast<size_t>(neurons));
  for (size_t i = 0; i < frequencies.size(); ++i) frequencies[i] = frequency(i, frequencies.size(), base);
  return frequencies;
}

std::vector<float> stored_frequencies(const Tensor& stored) {
  if (!is_weight_dtype(stored.dtype)) {
    fail(ErrorKind::unsupported, "attn.freqs has dtype ", name_of(stored.dtype),
         "; frequencies must be F64, F32, F16 or BF16");
  }
  if (size_of(stored.dtype) == sizeof(uint16_t)) {
    const Rounded rounded(stored);
    if (auto restored = merged(rounded)) return *restored;
    if (auto restored = grown(rounded, rounded.size(), kMostSteps)) return *restored;
  }
  const Tensor kept = converted(stored, DType::f32);
  Frequencies frequencies(static_cast<size_t>(kept.numel()));
  std::memcpy(frequencies.data(), kept.data, frequencies.size() * sizeof(float));
  return frequencies;
}

}  // namespace bdh
