// One vector of floats of whatever instruction set this file is compiled for, and the few operations the
// kernels need. Everything here has internal linkage: a function shared between instruction sets could run on
// a processor that lacks it.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace bdh::cpu {
namespace {

// NOLINTBEGIN(misc-definitions-in-headers): one value in each object.
#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
constexpr int kTogether = 4;  // vectors whose lanes are summed in one go
constexpr int kStreams = 8;   // parts of a list whose rows are added up, side by side
// NOLINTEND(misc-definitions-in-headers)

using Floats = float __attribute__((vector_size(kLanes * 4)));
using Ints = int32_t __attribute__((vector_size(kLanes * 4)));
using Words = uint32_t __attribute__((vector_size(kLanes * 4)));
using Halves = uint16_t __attribute__((vector_size(kLanes * 2)));

inline Floats load(const float* from) {
  Floats v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

[[gnu::noinline]] inline Floats load_tail(const float* from, int64_t count) {
  Floats v = {};
  for (int64_t i = 0; i < count; ++i) v[i] = from[i];
  return v;
}

/// Zeros from `count` on.
inline Floats load_some(const float* from, int64_t count) {
  return count >= kLanes ? load(from) : load_tail(from, count);
}

inline void store(float* to, Floats v) { __builtin_memcpy(to, &v, sizeof v); }

/// Asks for memory to come into the second cache. Inlined always: a compiler takes a function that does
/// nothing else for one that does nothing.
[[gnu::always_inline]] inline void prefetch_bytes(const void* from, int64_t bytes) {
  constexpr int64_t kLineBytes = 64;
  for (int64_t at = 0; at < bytes; at += kLineBytes)
    __builtin_prefetch(static_cast<const char*>(from) + at, 0, 2);
}

/// value in every lane (value - 0 is value, -0 too, so the subtraction costs nothing).
inline Floats splat(float value) { return value - Floats{}; }

/// a * b + c, in one rounding where the hardware has it.
inline Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (Floats)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

inline Floats relu(Floats v) { return v > Floats{} ? v : Floats{}; }

/// Lane i takes lane i ^ Distance.
template <int Distance>
inline Floats shuffle_lanes(Floats v) {
  Ints order;
  for (int i = 0; i < kLanes; ++i) order[i] = i ^ Distance;
#if defined(__clang__)
  Floats shuffled;
  for (int i = 0; i < kLanes; ++i) shuffled[i] = v[order[i]];
  return shuffled;
#else
  return __builtin_shuffle(v, order);
#endif
}

/// The sum of the lanes, halves added to halves.
inline float sum(Floats v) {
  if constexpr (kLanes > 8) v += shuffle_lanes<8>(v);
  if constexpr (kLanes > 4) v += shuffle_lanes<4>(v);
  v += shuffle_lanes<2>(v);
  v += shuffle_lanes<1>(v);
  return v[0];
}

#if defined(__AVX512F__)
inline Ints low_words(Ints a, Ints b) {
  return (Ints)_mm512_maskz_unpacklo_epi32(0xffff, (__m512i)a, (__m512i)b);
}
inline Ints high_words(Ints a, Ints b) {
  return (Ints)_mm512_maskz_unpackhi_epi32(0xffff, (__m512i)a, (__m512i)b);
}
inline Ints low_pairs(Ints a, Ints b) {
  return (Ints)_mm512_maskz_unpacklo_epi64(0xff, (__m512i)a, (__m512i)b);
}
inline Ints high_pairs(Ints a, Ints b) {
  return (Ints)_mm512_maskz_unpackhi_epi64(0xff, (__m512i)a, (__m512i)b);
}
#elif defined(__AVX2__)
inline Ints low_words(Ints a, Ints b) { return (Ints)_mm256_unpacklo_epi32((__m256i)a, (__m256i)b); }
inline Ints high_words(Ints a, Ints b) { return (Ints)_mm256_unpackhi_epi32((__m256i)a, (__m256i)b); }
inline Ints low_pairs(Ints a, Ints b) { return (Ints)_mm256_unpacklo_epi64((__m256i)a, (__m256i)b); }
inline Ints high_pairs(Ints a, Ints b) { return (Ints)_mm256_unpackhi_epi64((__m256i)a, (__m256i)b); }
#endif

/// The sums of the lanes of four vectors, Ints or Floats.
template <class Vector, class Number>
inline void sum_lanes(const Vector (&v)[kTogether], Number (&sums)[kTogether]) {
#if defined(__AVX2__)
  const auto added = [](Ints a, Ints b) { return (Vector)a + (Vector)b; };
  const auto words = [&](Vector a, Vector b) {
    return added(low_words((Ints)a, (Ints)b), high_words((Ints)a, (Ints)b));
  };
  const Vector even = words(v[0], v[1]), odd = words(v[2], v[3]);
  Vector all = added(low_pairs((Ints)even, (Ints)odd), high_pairs((Ints)even, (Ints)odd));
  if constexpr (kLanes > 8) all += (Vector)shuffle_lanes<8>((Floats)all);
  all += (Vector)shuffle_lanes<4>((Floats)all);
  __builtin_memcpy(sums, &all, sizeof sums);
#else
  for (int i = 0; i < kTogether; ++i) sums[i] = (v[i][0] + v[i][1]) + (v[i][2] + v[i][3]);
#endif
}

/// Vectors that there must be for `count` to be summed.
constexpr int summed(int count) { return (count + kTogether - 1) / kTogether * kTogether; }

/// The sums of the lanes of Count vectors.
template <int Count, class Vector, class Number>
inline void sum_lanes(const Vector (&v)[summed(Count)], Number* sums) {
#pragma GCC unroll 2
  for (int i = 0; i < Count; i += kTogether) {
    const Vector four[kTogether] = {v[i], v[i + 1], v[i + 2], v[i + 3]};
    Number some[kTogether];
    sum_lanes(four, some);
#pragma GCC unroll 4
    for (int j = 0; j < kTogether; ++j) {
      if (i + j < Count) sums[i + j] = some[j];
    }
  }
}

/// Every second lane of a, then of b: from lane First on, 0 or 1.
template <int First>
inline Floats every_second_lane(Floats a, Floats b) {
#if defined(__AVX512F__)
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return (Floats)_mm512_permutex2var_ps((__m512)a, _mm512_add_epi32(even, _mm512_set1_epi32(First)),
                                        (__m512)b);
#elif defined(__AVX2__)
  const __m256 halves = _mm256_shuffle_ps((__m256)a, (__m256)b, First == 0 ? 0x88 : 0xdd);
  return (Floats)_mm256_permute4x64_pd((__m256d)halves, 0xd8);
#else
  return Floats{a[First], a[2 + First], b[First], b[2 + First]};
#endif
}

inline int64_t sum(Ints v) {
  int64_t total = 0;
  for (int i = 0; i < kLanes; ++i) total += v[i];
  return total;
}

/// A bit for each lane that is not zero.
inline uint32_t nonzero_lanes(Floats v) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)v, _mm512_setzero_ps(), _CMP_NEQ_UQ);
#elif defined(__AVX2__)
  return static_cast<uint32_t>(
      _mm256_movemask_ps(_mm256_cmp_ps((__m256)v, _mm256_setzero_ps(), _CMP_NEQ_UQ)));
#else
  uint32_t lanes = 0;
  for (int i = 0; i < kLanes; ++i) lanes |= static_cast<uint32_t>(v[i] != 0.0f) << i;
  return lanes;
#endif
}

/// -1 in even lanes, 1 in odd ones.
inline Floats alternating_sign() {
  Floats v;
  for (int i = 0; i < kLanes; ++i) v[i] = i % 2 == 0 ? -1.0f : 1.0f;
  return v;
}

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

inline Halves load_bits(const void* from) {
  Halves v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

inline Words widen_bits(Halves v) {
#if defined(__AVX512F__)
  return (Words)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)v);
#elif defined(__AVX2__)
  return (Words)_mm256_cvtepu16_epi32((__m128i)v);
#else
  return __builtin_convertvector(v, Words);
#endif
}

inline Floats load(const BFloat16* from) { return (Floats)(widen_bits(load_bits(from)) << 16); }

/// Rounded to the nearest, ties to even; NaN stays one.
inline void store(BFloat16* to, Floats v) {
  const Words bits = (Words)v;
  const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const Words number = (Words)((bits & 0x7fffffff) <= 0x7f800000);
  const Halves halves = __builtin_convertvector((rounded & number) | (0x7fc0 & ~number), Halves);
  __builtin_memcpy(to, &halves, sizeof halves);
}

/// Exact for every half: the exponent is re-biased by a multiplication, which makes denormals right as well.
inline Floats load(const Float16* from) {
#if defined(__AVX512F__)
  return (Floats)_mm512_maskz_cvtph_ps(0xffff, (__m256i)load_bits(from));
#elif defined(__F16C__)
  return (Floats)_mm256_cvtph_ps((__m128i)load_bits(from));
#else
  const Words bits = widen_bits(load_bits(from));
  const Floats magnitude = (Floats)((bits & 0x7fff) << 13) * 0x1p112f;
  const Words special = (Words)((bits & 0x7c00) == 0x7c00) & 0x7f800000;
  return (Floats)((Words)magnitude | special | ((bits & 0x8000) << 16));
#endif
}

/// Two numbers in each lane, the first one in its lower half; zeros from `count` on, a multiple of kLanes.
inline Words load_words(const BFloat16* from, [[maybe_unused]] int64_t count) {
#if defined(__AVX512F__)
  if (count < 2 * kLanes) return (Words)_mm512_maskz_loadu_epi32(0x00ff, from);
#endif
  Words words;
  __builtin_memcpy(&words, from, sizeof words);
  return words;
}

}  // namespace
}  // namespace bdh::cpu
