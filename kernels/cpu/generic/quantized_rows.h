// Products with quantized rows, read as they lie: numbers are widened in registers. x is rounded to 16 bits
// once for all rows, so that a dot product is integer arithmetic: exact for 512 numbers of 8 bits, or a group
// of 4 bits, and then times scales. Where bytes are multiplied x is two of them, 256 coarse + fine. Internal
// linkage only: see simd.h.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/cpu/generic/simd.h"
#include "kernels/cpu/kernels.h"

namespace bdh::cpu {
namespace {

// NOLINTBEGIN(misc-definitions-in-headers): one value in each object.
constexpr int64_t kGroup = 32;              // numbers of 4 bits that share a scale
constexpr int64_t kHalfGroup = kGroup / 2;  // its bytes
constexpr int64_t kExactNumbers = 512;      // 512 * 128 * 32767 is below 2^31
constexpr int64_t kMostNumbers = 4096;      // of x that are rounded together
constexpr int64_t kShorts = 2 * kLanes;     // in a vector
constexpr int64_t kBytes = 4 * kLanes;
// NOLINTEND(misc-definitions-in-headers)

using Shorts = int16_t __attribute__((vector_size(kLanes * 4)));
using HalfShorts = int16_t __attribute__((vector_size(kLanes * 2)));
using Bytes = uint8_t __attribute__((vector_size(kLanes * 4)));
using SignedBytes = int8_t __attribute__((vector_size(kLanes * 4)));
using HalfSignedBytes = int8_t __attribute__((vector_size(kLanes * 2)));
using QuarterBytes = uint8_t __attribute__((vector_size(kLanes)));
using QuarterSignedBytes = int8_t __attribute__((vector_size(kLanes)));

template <class Vector>
inline Vector load_vector(const void* from) {
  Vector v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

/// total + a * b, each lane of two neighbours' products.
inline Ints multiply_pairs(Shorts a, Shorts b, Ints total) {
#if defined(__AVX512VNNI__)
  return (Ints)_mm512_dpwssd_epi32((__m512i)total, (__m512i)a, (__m512i)b);
#elif defined(__AVX512BW__)
  return total + (Ints)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return total + (Ints)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
  return total + (Ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
#elif defined(__aarch64__)
  const int32x4_t low = vmull_s16(vget_low_s16((int16x8_t)a), vget_low_s16((int16x8_t)b));
  const int32x4_t high = vmull_high_s16((int16x8_t)a, (int16x8_t)b);
  return total + (Ints)vpaddq_s32(low, high);
#else
  for (int i = 0; i < kLanes; ++i) total[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
  return total;
#endif
}

// NOLINTBEGIN(misc-definitions-in-headers): one value in each object.
#if defined(__AVX512VNNI__)
constexpr bool kMultipliesBytes = true;
constexpr uint8_t kSign = 128;  // is added to numbers of 8 bits, as the instruction wants them without a sign
#elif defined(__ARM_FEATURE_DOTPROD)
constexpr bool kMultipliesBytes = true;
constexpr uint8_t kSign = 0;
#else
constexpr bool kMultipliesBytes = false;
constexpr uint8_t kSign = 0;
#endif
// NOLINTEND(misc-definitions-in-headers)

/// total + a * x, each lane of four neighbours' products. Without VNNI a has no number above 127.
inline Ints multiply_quads(Bytes a, SignedBytes x, Ints total) {
#if defined(__AVX512VNNI__)
  return (Ints)_mm512_dpbusd_epi32((__m512i)total, (__m512i)a, (__m512i)x);
#elif defined(__ARM_FEATURE_DOTPROD)
  return (Ints)vdotq_s32((int32x4_t)total, (int8x16_t)a, (int8x16_t)x);
#elif defined(__aarch64__)
  const auto numbers = (int8x16_t)a, others = (int8x16_t)x;
  const int16x8_t low = vmull_s8(vget_low_s8(numbers), vget_low_s8(others));
  return (Ints)vpadalq_s16(vpadalq_s16((int32x4_t)total, low), vmull_high_s8(numbers, others));
#else
  HalfSignedBytes halves[2], x_halves[2];
  __builtin_memcpy(halves, &a, sizeof a);
  __builtin_memcpy(x_halves, &x, sizeof x);
  for (int i = 0; i < 2; ++i)
    total = multiply_pairs(__builtin_convertvector(halves[i], Shorts),
                           __builtin_convertvector(x_halves[i], Shorts), total);
  return total;
#endif
}

#if defined(__AVX2__)
/// Two neighbours' products, which fit where a has no number above 127.
inline Shorts multiply_byte_pairs(Bytes a, SignedBytes x) {
#if defined(__AVX512BW__)
  return (Shorts)_mm512_maddubs_epi16((__m512i)a, (__m512i)x);
#else
  return (Shorts)_mm256_maddubs_epi16((__m256i)a, (__m256i)x);
#endif
}
#endif

/// A vector of numbers of 16 bits, 256 coarse + fine.
struct CoarseAndFine {
  SignedBytes coarse, fine;
};

/// start + what a vector of 4-bit numbers times x comes to, for every lane: low those of the lower halves of
/// its bytes, all below 16.
inline Ints multiply_halves(Bytes low, const CoarseAndFine& x_low, Bytes high, const CoarseAndFine& x_high,
                            Ints start) {
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
  const Shorts coarse = multiply_byte_pairs(low, x_low.coarse) + multiply_byte_pairs(high, x_high.coarse);
  const Shorts fine = multiply_byte_pairs(low, x_low.fine) + multiply_byte_pairs(high, x_high.fine);
  return multiply_pairs(coarse, Shorts{} + 256, multiply_pairs(fine, Shorts{} + 1, start));
#else
  const Ints coarse = multiply_quads(low, x_low.coarse, multiply_quads(high, x_high.coarse, Ints{}));
  return (coarse << 8) + multiply_quads(low, x_low.fine, multiply_quads(high, x_high.fine, start));
#endif
}

inline Shorts load_signed(const int8_t* from) {
  const auto bytes = load_vector<HalfSignedBytes>(from);
#if defined(__AVX512BW__)
  return (Shorts)_mm512_maskz_cvtepi8_epi16(~__mmask32{0}, (__m256i)bytes);
#elif defined(__AVX2__)
  return (Shorts)_mm256_cvtepi8_epi16((__m128i)bytes);
#else
  return __builtin_convertvector(bytes, Shorts);
#endif
}

inline Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }

/// kLanes bytes, each in a lane of its own.
inline Ints widen_signed(const int8_t* from) {
#if defined(__AVX512F__)
  return (Ints)_mm512_maskz_cvtepi8_epi32(0xffff, load_vector<__m128i>(from));
#elif defined(__AVX2__)
  return (Ints)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#elif defined(__SSE2__)
  const __m128i bytes = _mm_cvtsi32_si128(load_vector<int32_t>(from));
  const __m128i twice = _mm_unpacklo_epi8(bytes, bytes);
  return (Ints)_mm_unpacklo_epi16(twice, twice) >> 24;
#else
  return __builtin_convertvector(load_vector<QuarterSignedBytes>(from), Ints);
#endif
}

inline Words widen_unsigned(const uint8_t* from) {
#if defined(__AVX512F__)
  return (Words)_mm512_maskz_cvtepu8_epi32(0xffff, load_vector<__m128i>(from));
#elif defined(__AVX2__)
  return (Words)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#elif defined(__SSE2__)
  const __m128i zero = _mm_setzero_si128(), bytes = _mm_cvtsi32_si128(load_vector<int32_t>(from));
  return (Words)_mm_unpacklo_epi16(_mm_unpacklo_epi8(bytes, zero), zero);
#else
  return __builtin_convertvector(load_vector<QuarterBytes>(from), Words);
#endif
}

/// What the lower four bits of every lane stand for.
inline Floats number_of_four_bits(Words words) {
#if defined(__AVX512F__)
  // A permutation looks at the lower four bits of its indices.
  const __m512 numbers = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
  return (Floats)_mm512_maskz_permutexvar_ps(0xffff, (__m512i)words, numbers);
#else
  return to_floats((Ints)(words & 15) - 8);
#endif
}

/// As many numbers as there are lanes for, of one group, from number d on, which is its first.
template <int Vectors>
inline void load_numbers(const int8_t* row, int64_t d, Floats (&numbers)[Vectors]) {
  for (int v = 0; v < Vectors; ++v) numbers[v] = to_floats(widen_signed(row + d + v * kLanes));
}

template <int Vectors>
inline void load_numbers(const uint8_t* row, int64_t d, Floats (&numbers)[Vectors]) {
  constexpr int kHalf = kHalfGroup / kLanes;
  for (int v = 0; v < kHalf; ++v) {
    const Words bytes = widen_unsigned(row + d / 2 + v * kLanes);
    numbers[v] = number_of_four_bits(bytes);
    if constexpr (Vectors > kHalf) numbers[v + kHalf] = number_of_four_bits(bytes >> 4);
  }
}

#if defined(__F16C__)
inline float widen_half(const uint16_t* from) { return _cvtsh_ss(load_vector<uint16_t>(from)); }
#elif defined(__aarch64__)
inline float widen_half(const uint16_t* from) { return static_cast<float>(load_vector<__fp16>(from)); }
#else
[[gnu::noinline]] inline float widen_half(const uint16_t* from) {
  Float16 lanes[kLanes] = {};
  __builtin_memcpy(lanes, from, sizeof *from);
  return load(lanes)[0];
}
#endif

/// to: has room for whole vectors.
inline void widen_halves(const uint16_t* from, int64_t count, float factor, float* to) {
#if defined(__AVX512F__)
#pragma GCC unroll 1
  for (int64_t i = 0; i < count; i += kLanes) {
    const auto there = static_cast<__mmask16>(count - i >= kLanes ? 0xffff : (1 << (count - i)) - 1);
    const __m256i halves = _mm256_maskz_loadu_epi16(there, from + i);
    store(to + i, (Floats)_mm512_maskz_cvtph_ps(0xffff, halves) * splat(factor));
  }
#else
  int64_t i = 0;
#pragma GCC unroll 1
  for (; i + kLanes <= count; i += kLanes)
    store(to + i, load(reinterpret_cast<const Float16*>(from + i)) * splat(factor));
#pragma GCC unroll 1
  for (; i < count; ++i) to[i] = widen_half(from + i) * factor;
#endif
}

/// Which rows, one after the other.
template <class Element>
struct QuantizedList {
  const Element* data;
  const uint16_t* scales;
  int64_t stride, scale_stride;
  const int32_t* index;
  int64_t count;

  QuantizedList(const Rows& rows, const int32_t* list, int64_t rows_in_it)
      : data(static_cast<const Element*>(rows.data)),
        scales(rows.scales),
        stride(rows.stride),
        scale_stride(rows.scale_stride),
        index(list),
        count(rows_in_it) {}

  int64_t at(int64_t i) const { return index ? index[i] : i; }
  const Element* row(int64_t i) const { return data + at(i) * stride; }
  const uint16_t* scales_of(int64_t i) const { return scales + at(i) * scale_stride; }

  /// Asks for those of the step after the next one, of Count parts of `part` rows.
  template <int Count>
  [[gnu::always_inline]] void prefetch_after(int64_t i, int64_t part) const {
    if (!index || i + 2 >= part) return;
    for (int j = 0; j < Count; ++j) {
      prefetch_bytes(row(i + 2 + j * part), stride);
      prefetch_bytes(scales_of(i + 2 + j * part), 1);
    }
  }
};

// ---- x, rounded: a number is scale times one of 16 bits ----

struct RoundedX {
  alignas(64) int16_t numbers[kMostNumbers];
  int64_t count;  // a multiple of 2 kGroup: zeros follow what x has
  float scale;    // NaN where x is not finite, and the numbers then 0

  RoundedX(const float* x, int64_t width) : count((width + 2 * kGroup - 1) / (2 * kGroup) * (2 * kGroup)) {
    constexpr float kLargest = 127 * 256 + 127, kSmallest = 1e-30f;
    Floats most = {}, check = {};
    for (int64_t d = 0; d < width; d += kLanes) {
      const Floats value = load(x + d), magnitude = value < Floats{} ? -value : value;
      most = magnitude > most ? magnitude : most;
      check += value * Floats{};
    }
    float largest = 0;
    for (int i = 0; i < kLanes; ++i) largest = most[i] > largest ? most[i] : largest;
    const float not_finite = sum(check);
    const bool some = not_finite == 0 && largest > kSmallest;
    scale = (some ? largest / kLargest : 0.0f) + not_finite;
    for (int64_t d = 0; d < count; d += kLanes)
      round(some && d < width ? load(x + d) : Floats{}, some ? kLargest / largest : 0.0f, numbers + d);
  }

  static void round(Floats values, float inverse, int16_t* to) {
    const Floats scaled = values * splat(inverse);
    const Floats half = scaled < Floats{} ? splat(-0.5f) : splat(0.5f);
    const HalfShorts rounded =
        __builtin_convertvector(__builtin_convertvector(scaled + half, Ints), HalfShorts);
    __builtin_memcpy(to, &rounded, sizeof rounded);
  }
};

/// x in the order in which vectors of bytes hold their numbers. Of 4 bits: for each vector those of the lower
/// halves, then those of the upper ones.
template <class Element>
struct XInBytes {
  static constexpr bool kFourBits = std::is_same_v<Element, uint8_t>;
  static constexpr int64_t kStep = kFourBits ? 2 * kBytes : kBytes;  // numbers of a vector
  static constexpr uint8_t kAdded = kFourBits ? 8 : kSign;           // to a number, in its byte

  alignas(64) int8_t coarse[kMostNumbers], fine[kMostNumbers];
  alignas(64) int32_t start[kMostNumbers / 4];  // for each lane of a vector: what kAdded comes to
  int64_t count;                                // a multiple of kStep
  int64_t groups;
  float scale;

  explicit XInBytes(const RoundedX& x)
      : count((x.count + kStep - 1) / kStep * kStep), groups(x.count / kGroup), scale(x.scale) {
    constexpr int64_t kVector = kBytes / kHalfGroup;  // half groups in a vector of bytes
    for (int64_t i = 0; i < count / kHalfGroup; ++i) {
      const int64_t group = i / 2, half = i % 2;
      const int64_t at =
          kFourBits ? group / kVector * kStep + half * kBytes + group % kVector * kHalfGroup : i * kHalfGroup;
      divide(group < groups ? x.numbers + i * kHalfGroup : kZeros, at);
    }
    for (int64_t i = 0; i < count; i += kStep) {
      const Ints added = what_is_added(i);
      __builtin_memcpy(start + i / kStep * kLanes, &added, sizeof added);
    }
  }

  CoarseAndFine at(int64_t i) const {
    return {load_vector<SignedBytes>(coarse + i), load_vector<SignedBytes>(fine + i)};
  }

 private:
  static constexpr int16_t kZeros[kHalfGroup] = {};

  void divide(const int16_t* numbers, int64_t at) {
    for (int64_t i = 0; i < kHalfGroup; ++i) {
      coarse[at + i] = static_cast<int8_t>((numbers[i] + 128) >> 8);
      fine[at + i] = static_cast<int8_t>(numbers[i]);
    }
  }

  Ints what_is_added(int64_t i) const {
    const Bytes added = Bytes{} + kAdded;
    if (kFourBits) return -multiply_halves(added, at(i), added, at(i + kBytes), Ints{});
    const Ints of_coarse = multiply_quads(added, at(i).coarse, Ints{});
    return -((of_coarse << 8) + multiply_quads(added, at(i).fine, Ints{}));
  }
};

// ---- dot products ----

/// Numbers of 8 bits, columns [begin, end).
template <int Count>
[[gnu::always_inline]] inline void dot_exactly(const int8_t* const (&row)[Count], const RoundedX& x,
                                               int64_t begin, int64_t end, int32_t (&exact)[Count]) {
  Ints sums[summed(Count)] = {};
  for (int64_t d = begin; d < end; d += kShorts) {
    const auto numbers = load_vector<Shorts>(x.numbers + d);
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) sums[i] = multiply_pairs(load_signed(row[i] + d), numbers, sums[i]);
  }
  sum_lanes<Count>(sums, exact);
}

template <int Count>
[[gnu::always_inline]] inline void dot_exactly(const int8_t* const (&row)[Count], const XInBytes<int8_t>& x,
                                               int64_t begin, int64_t end, int32_t (&exact)[Count]) {
  Ints coarse[summed(Count)] = {}, fine[summed(Count)] = {}, start = {};  // modulo 2^32, as the sum fits
  for (int64_t d = begin; d < end; d += kBytes) {
    const CoarseAndFine numbers = x.at(d);
    start += load_vector<Ints>(x.start + d / 4);
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) {
      const Bytes some = load_vector<Bytes>(row[i] + d) ^ kSign;
      coarse[i] = multiply_quads(some, numbers.coarse, coarse[i]);
      fine[i] = multiply_quads(some, numbers.fine, fine[i]);
    }
  }
  for (int i = 0; i < Count; ++i) fine[i] = (Ints)((Words)fine[i] + ((Words)coarse[i] << 8) + (Words)start);
  sum_lanes<Count>(fine, exact);
}

/// out[i] += the products with the columns from `column` on, for the rows first, first + step, ...
template <int Count, class X>
inline void dot_some(const QuantizedList<int8_t>& rows, int64_t first, int64_t step, int64_t column,
                     const X& x, float* out) {
  const int8_t* row[Count];
  for (int i = 0; i < Count; ++i) row[i] = rows.row(first + i * step) + column;
  float total[Count] = {};
  for (int64_t begin = 0; begin < x.count; begin += kExactNumbers) {
    int32_t exact[Count];
    dot_exactly<Count>(row, x, begin, std::min(x.count, begin + kExactNumbers), exact);
    for (int i = 0; i < Count; ++i) total[i] += static_cast<float>(exact[i]);
  }
  for (int i = 0; i < Count; ++i) {
    const int64_t at = first + i * step;
    out[at] += total[i] * (widen_half(rows.scales_of(at)) * x.scale);
  }
}

/// kLanes numbers, of the groups that the first `count` bytes of a vector belong to.
inline Floats group_scales(const uint16_t* scales, [[maybe_unused]] int64_t count) {
#if defined(__AVX512F__)
  const __mmask8 there = count < kBytes ? 0b11 : 0b1111;
  const __m128 some = _mm_cvtph_ps(_mm_maskz_loadu_epi16(there, scales));
  const __m512i order = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
  return (Floats)_mm512_maskz_permutexvar_ps(0xffff, order, _mm512_zextps128_ps512(some));
#elif defined(__AVX2__)
  const __m256 some = _mm256_cvtph_ps(_mm_loadu_si32(scales));
  return (Floats)_mm256_permutevar8x32_ps(some, _mm256_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1));
#else
  return splat(widen_half(scales));
#endif
}

/// Zeros from `count` on, a multiple of 32.
inline Bytes load_some_bytes(const uint8_t* from, [[maybe_unused]] int64_t count) {
#if defined(__AVX512F__)
  if (count < kBytes) return (Bytes)_mm512_maskz_loadu_epi32(0x00ff, from);
#endif
  return load_vector<Bytes>(from);
}

template <int Count>
inline void dot_some(const QuantizedList<uint8_t>& rows, int64_t first, int64_t step, int64_t column,
                     const XInBytes<uint8_t>& x, float* out) {
  const uint8_t* row[Count];
  const uint16_t* scales[Count];
  for (int i = 0; i < Count; ++i) {
    row[i] = rows.row(first + i * step) + column / 2;
    scales[i] = rows.scales_of(first + i * step) + column / kGroup;
  }
  Floats total[summed(Count)] = {};
  const int64_t bytes = x.groups * kHalfGroup;
  for (int64_t d = 0; d < bytes; d += kBytes) {
    const CoarseAndFine low = x.at(2 * d), high = x.at(2 * d + kBytes);
    const auto start = load_vector<Ints>(x.start + d / 4);
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) {
      const Bytes both = load_some_bytes(row[i] + d, bytes - d);
      const Ints products = multiply_halves(both & 15, low, both >> 4, high, start);
      total[i] =
          multiply_add(to_floats(products), group_scales(scales[i] + d / kHalfGroup, bytes - d), total[i]);
    }
  }
  float sums[Count];
  sum_lanes<Count>(total, sums);
  for (int i = 0; i < Count; ++i) out[first + i * step] += sums[i] * x.scale;
}

// Gathered rows whose dot products are made side by side: as many as there are registers for, and in a
// minimal build no more than dense ones.
// NOLINTBEGIN(misc-definitions-in-headers): one value in each object.
#ifdef BDH_MINIMAL
constexpr int kGathered = kTogether;
#else
constexpr int kGathered = kLanes == 16 ? kStreams : kTogether;
#endif
// NOLINTEND(misc-definitions-in-headers)

template <int Count, class Element, class X>
void dot_parts(const QuantizedList<Element>& rows, int64_t column, const X& x, float* out) {
  const int64_t part = rows.count / Count;
  for (int64_t i = 0; i < part; ++i) {
    rows.template prefetch_after<Count>(i, part);
    dot_some<Count>(rows, i, part, column, x, out);
  }
  for (int64_t i = part * Count; i < rows.count; ++i) dot_some<1>(rows, i, 0, column, x, out);
}

template <class Element, class X>
void dot_chunk(const QuantizedList<Element>& rows, int64_t column, const X& x, float* out) {
  if (rows.index) return dot_parts<kGathered>(rows, column, x, out);
  dot_parts<kTogether>(rows, column, x, out);
}

template <class Element>
void dot_quantized(const QuantizedList<Element>& rows, int64_t width, const float* x, float* out) {
  for (int64_t i = 0; i < rows.count; ++i) out[i] = 0;
  for (int64_t column = 0; column < width; column += kMostNumbers) {
    const RoundedX rounded(x + column, width - column < kMostNumbers ? width - column : kMostNumbers);
    if constexpr (std::is_same_v<Element, uint8_t> || kMultipliesBytes) {
      dot_chunk(rows, column, XInBytes<Element>(rounded), out);
    } else {
      dot_chunk(rows, column, rounded, out);
    }
  }
}

inline void dot_quantized_rows(const Rows& rows, const int32_t* index, int64_t count, int64_t width,
                               const float* x, float* out) {
  if (rows.dtype == DType::i8) return dot_quantized(QuantizedList<int8_t>(rows, index, count), width, x, out);
  dot_quantized(QuantizedList<uint8_t>(rows, index, count), width, x, out);
}

// ---- sums of rows ----

/// Of some rows, what their groups' numbers are multiplied by. Rows of 8 bits have one scale for all groups.
template <int Count>
using GroupWeights = float[Count][kMostNumbers / kGroup];

inline void weigh(const QuantizedList<int8_t>& rows, int64_t i, int64_t, int64_t, float factor, float* to) {
  to[0] = widen_half(rows.scales_of(i)) * factor;
}
inline void weigh(const QuantizedList<uint8_t>& rows, int64_t i, int64_t column, int64_t groups, float factor,
                  float* to) {
  widen_halves(rows.scales_of(i) + column / kGroup, groups, factor, to);
}

/// Adds Width numbers of each row, all of one group, to their sums.
template <int Width, int Count, class Element>
inline void add_group(const Element* const (&row)[Count], const GroupWeights<Count>& weights, int64_t d,
                      float* out) {
  constexpr int kVectors = Width / kLanes;
  const int64_t group = std::is_same_v<Element, int8_t> ? 0 : d / kGroup;
  Floats total[kVectors];
  for (int v = 0; v < kVectors; ++v) total[v] = load(out + d + v * kLanes);
#pragma GCC unroll kLanes / 2
  for (int i = 0; i < Count; ++i) {
    Floats numbers[kVectors];
    load_numbers(row[i], d, numbers);
    // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): weigh set it
    const Floats weight = splat(weights[i][group]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) total[v] = multiply_add(numbers[v], weight, total[v]);
  }
  for (int v = 0; v < kVectors; ++v) store(out + d + v * kLanes, total[v]);
}

/// The rows first, first + step, ..., columns [column, column + width), at most kMostNumbers.
template <int Count, class Element>
inline void accumulate_some(const QuantizedList<Element>& rows, const float* scale, int64_t first,
                            int64_t step, int64_t column, int64_t width, float* out) {
  constexpr int64_t kPerElement = std::is_same_v<Element, int8_t> ? 1 : 2;
  const Element* row[Count];
  GroupWeights<Count> weights;
  for (int i = 0; i < Count; ++i) {
    const int64_t at = first + i * step;
    row[i] = rows.row(at) + column / kPerElement;
    weigh(rows, at, column, (width + kGroup - 1) / kGroup, scale ? scale[at] : 1.0f, weights[i]);
  }
  int64_t d = 0;
  for (; d + kGroup <= width; d += kGroup) add_group<kGroup>(row, weights, d, out);
  if (d < width) add_group<kHalfGroup>(row, weights, d, out);
}

template <class Element>
inline void accumulate_quantized(const QuantizedList<Element>& rows, const float* scale, int64_t width,
                                 float* out) {
  const int64_t part = rows.count / kStreams;
  for (int64_t column = 0; column < width; column += kMostNumbers) {
    const int64_t some = width - column < kMostNumbers ? width - column : kMostNumbers;
    for (int64_t i = 0; i < part; ++i) {
      rows.template prefetch_after<kStreams>(i, part);
      accumulate_some<kStreams>(rows, scale, i, part, column, some, out + column);
    }
    for (int64_t i = part * kStreams; i < rows.count; ++i)
      accumulate_some<1>(rows, scale, i, 0, column, some, out + column);
  }
}

inline void accumulate_quantized_rows(const Rows& rows, const int32_t* index, const float* scale,
                                      int64_t count, int64_t width, float* out) {
  if (rows.dtype == DType::i8)
    return accumulate_quantized(QuantizedList<int8_t>(rows, index, count), scale, width, out);
  accumulate_quantized(QuantizedList<uint8_t>(rows, index, count), scale, width, out);
}

// ---- as floats ----

inline void widen_quantized(const Rows& rows, int64_t count, int64_t width, float* to) {
  const float one = 1.0f;
  for (int64_t i = 0; i < count; ++i) {
    float* out = to + i * width;
    const auto row = static_cast<int32_t>(i);
    for (int64_t d = 0; d < width; d += kLanes) store(out + d, Floats{});
    accumulate_quantized_rows(rows, &row, &one, 1, width, out);
  }
}

}  // namespace
}  // namespace bdh::cpu
