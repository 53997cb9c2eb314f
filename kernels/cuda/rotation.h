// Rotation (RoPE) of a pair of neurons: (2i, 2i + 1) is rotated by 2 pi frac(t f). Device code for the
// epilogues that produce n.
//
// The phase t f is rounded as float32 and then loses its whole turns, as the reference does (models were
// trained with that rounding), so no table of T x N angles is needed: a pair costs one product and two short
// polynomials. With a horizon the product is exact: 64 bits of t f, of which the whole turns run over.
#pragma once

#include <type_traits>

#include "kernels/cuda/device.h"

namespace bdh::cuda {

struct Rotation {
  float sine, cosine;
};

/// Sine and cosine of an angle in [0, 2 pi], within 1e-7: reduced by quarter turns (pi/2 in three exact
/// parts), then minimax polynomials on [-pi/4, pi/4].
__device__ inline Rotation rotation_by(float angle) {
  const int quarter = static_cast<int>(angle * 0.636619772f + 0.5f);  // NOLINT(bugprone-incorrect-roundings)
  const float q = static_cast<float>(quarter);
  const float y =
      fmaf(-q, 7.5497899548918821e-8f, fmaf(-q, 4.837512969970703125e-4f, fmaf(-q, 1.5703125f, angle)));
  const float z = y * y;
  const float sine = fmaf(fmaf(fmaf(z, -1.95829547e-4f, 8.33272561e-3f), z, -0.166666642f) * z, y, y);
  const float cosine =
      fmaf(fmaf(fmaf(z, 2.45429728e-5f, -1.38882804e-3f), z, 4.16666642e-2f) * z, z, fmaf(z, -0.5f, 1.0f));
  const float s = quarter & 1 ? cosine : sine, c = quarter & 1 ? sine : cosine;
  return {quarter & 2 ? -s : s, (quarter + 1) & 2 ? -c : c};
}

/// Where a token stands, and whether its phase is exact.
struct TokenPlace {
  float rounded;
  unsigned long long position;
  bool exact;

  __device__ TokenPlace(int64_t at, bool is_exact)
      : rounded(static_cast<float>(at)), position(static_cast<unsigned long long>(at)), exact(is_exact) {}
};

/// frac(position f); f is a multiple of 2^-64, or what lies below is dropped.
__device__ inline float exact_phase(unsigned long long position, float freq) {
  const float size = fabsf(freq);
  const auto part = static_cast<unsigned long long>((size - truncf(size)) * 0x1p64f);
  const unsigned long long fixed = freq < 0 ? 0 - part : part;
  return static_cast<float>(static_cast<unsigned>((position * fixed) >> 32)) * 0x1p-32f;
}

/// position * freq turns, the whole turns dropped (exactly).
__device__ inline float phase_at(const TokenPlace& place, float freq) {
  if (place.exact) return exact_phase(place.position, freq);
  const float phase = __fmul_rn(place.rounded, freq);
  return __fsub_rn(phase, floorf(phase));
}

constexpr float kWholeTurn = 6.28318530718f;

/// The rotation of a neuron at a position.
__device__ inline Rotation rotation_at(const TokenPlace& place, float freq) {
  return rotation_by(__fmul_rn(phase_at(place, freq), kWholeTurn));
}

/// The same by the special function unit, within 1e-6 of it: for an r that is rounded to 16 bits.
__device__ inline Rotation fast_rotation_at(const TokenPlace& place, float freq) {
  const float phase = phase_at(place, freq);
  Rotation fast;
  __sincosf((phase - rintf(phase)) * kWholeTurn, &fast.sine, &fast.cosine);
  return fast;
}

/// One neuron of a pair, its partner given: even a cos - b sin, odd b cos + a sin.
__device__ inline float rotated(float value, float partner, bool odd, Rotation rotation) {
  return fmaf(value, rotation.cosine, (odd ? partner : -partner) * rotation.sine);
}

/// A pair and its two frequencies, which one rotation serves where they are equal, as the reference makes
/// them. Result: what r is stored as.
template <class Result>
__device__ inline void rotate_pair(float even, float odd, const TokenPlace& place, const float* freqs,
                                   float& r_even, float& r_odd) {
  constexpr auto kRotationAt = std::is_same_v<Result, float> ? rotation_at : fast_rotation_at;
  const Rotation first = kRotationAt(place, freqs[0]);
  const Rotation second = freqs[0] == freqs[1] ? first : kRotationAt(place, freqs[1]);
  r_even = rotated(even, odd, false, first);
  r_odd = rotated(odd, even, true, second);
}

/// Its transpose: the gradient of n from that of r.
template <class Result>
__device__ inline void unrotate_pair(float r_even, float r_odd, const TokenPlace& place, const float* freqs,
                                     float& even, float& odd) {
  constexpr auto kRotationAt = std::is_same_v<Result, float> ? rotation_at : fast_rotation_at;
  const Rotation first = kRotationAt(place, freqs[0]);
  const Rotation second = freqs[0] == freqs[1] ? first : kRotationAt(place, freqs[1]);
  even = fmaf(r_even, first.cosine, r_odd * second.sine);
  odd = fmaf(r_odd, second.cosine, -r_even * first.sine);
}

}  // namespace bdh::cuda
