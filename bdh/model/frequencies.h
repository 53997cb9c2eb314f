// The frequencies of rotation, in turns per token: computed, or restored where a file holds them rounded.
#pragma once

#include <cstdint>
#include <vector>

#include "bdh/base/tensor.h"

namespace bdh {

/// What the authors' code takes as the base of the rotation.
inline constexpr double kRotationBase = 65536;

/// f_i = base^(-2*floor(i/2)/N) / (2 pi) turns per token, (N) float32.
std::vector<float> rotation_frequencies(int64_t neurons, double base = kRotationBase);

/// Frequencies as a file holds them, in float32. Those of 16 bits are restored where they are exactly what
/// the formula, or the formulas of merged and grown models, give when rounded: a model that is saved in 16
/// bits has run with them unrounded. All others are kept as they are. Throws Error(unsupported) for other
/// dtypes.
std::vector<float> stored_frequencies(const Tensor& stored);

}  // namespace bdh
