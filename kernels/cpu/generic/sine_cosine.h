// Sine and cosine of a vector of angles. Internal linkage: see simd.h.
#pragma once

#include "kernels/cpu/generic/simd.h"

namespace bdh::cpu {
namespace {

struct SineCosine {
  Floats sine, cosine;
};

// Sine and cosine of an angle in [0, 2 pi], within 1e-7: reduced by quarter turns (pi/2 in three exact
// parts), then minimax polynomials on [-pi/4, pi/4].
inline SineCosine sine_cosine(Floats angle) {
  const Ints quarter = __builtin_convertvector(angle * 0.636619772f + 0.5f, Ints);
  const Floats q = __builtin_convertvector(quarter, Floats);
  const Floats y = ((angle - q * 1.5703125f) - q * 4.837512969970703125e-4f) - q * 7.5497899548918821e-8f;
  const Floats z = y * y;
  const Floats sine_tail =
      multiply_add(multiply_add(z, splat(-1.95829547e-4f), splat(8.33272561e-3f)), z, splat(-0.166666642f));
  const Floats sine = multiply_add(sine_tail * z, y, y);
  const Floats cosine_tail =
      multiply_add(multiply_add(z, splat(2.45429728e-5f), splat(-1.38882804e-3f)), z, splat(4.16666642e-2f));
  const Floats cosine = multiply_add(cosine_tail * z, z, multiply_add(z, splat(-0.5f), splat(1.0f)));
  const Ints odd = (quarter & 1) != 0;
  const Words sine_sign = (Words)(quarter & 2) << 30;
  const Words cosine_sign = (Words)((quarter + 1) & 2) << 30;
  return {(Floats)((Words)(odd ? cosine : sine) ^ sine_sign),
          (Floats)((Words)(odd ? sine : cosine) ^ cosine_sign)};
}

// positions * freqs turns; the whole turns dropped (exactly), the rest as an angle.
inline SineCosine sine_cosine_at(Floats positions, Floats freqs) {
  const Floats phase = positions * freqs;
  const Floats whole = __builtin_convertvector(__builtin_convertvector(phase, Ints), Floats);
  return sine_cosine((phase - whole) * 6.28318530718f);
}

}  // namespace
}  // namespace bdh::cpu
