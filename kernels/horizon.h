// A horizon: how much of what a token left is still there, and phases, exact and rounded.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/limits.h"

namespace bdh {

/// exp(-distance / horizon), distance in tokens; 0 below kSmallest.
inline float weight_after(int64_t distance, float horizon) {
  const double weight = std::exp(-static_cast<double>(distance) / static_cast<double>(horizon));
  return weight < kSmallest ? 0.0f : static_cast<float>(weight);
}

/// The distance from which weights are 0.
inline int64_t reach_of(float horizon) {
  const double reach = -std::log(static_cast<double>(kSmallest)) * static_cast<double>(horizon);
  return reach < 0x1p62 ? static_cast<int64_t>(reach) + 1 : INT64_MAX;
}

/// f * 2^64 mod 2^64: exact but for what lies below 2^-64.
inline uint64_t fixed_point(float f) {
  const float size = std::fabs(f);
  const auto fixed = static_cast<uint64_t>(std::ldexp(static_cast<double>(size - std::floor(size)), 64));
  return f < 0 ? 0 - fixed : fixed;
}

/// 2 pi frac(position * f), the product not rounded.
inline float exact_angle(int64_t position, uint64_t fixed_freq) {
  const uint64_t phase = static_cast<uint64_t>(position) * fixed_freq;
  return static_cast<float>(static_cast<uint32_t>(phase >> 32)) * (6.28318530718f * 0x1p-32f);
}

/// 2 pi frac(position * f), the product rounded to float32 as the reference rounds it.
inline float rounded_angle(int64_t position, float f) {
  const float phase = static_cast<float>(position) * f;
  return (phase - std::floor(phase)) * 6.28318530718f;
}

}  // namespace bdh
