// Products with quantized rows, read as they lie: numbers are widened in registers. x is rounded to 16 bits
// once for all rows, so that a dot product is integer arithmetic: exact for 512 numbers of 8 bits, or a group
// of 4 bits, and then times scales. Internal linkage only: see simd.h.
#pragma once

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
// NOLINTEND(misc-definitions-in-headers)

using Shorts = int16_t __attribute__((vector_size(kLanes * 4)));
using HalfShorts = int16_t __attribute__((vector_size(kLanes * 2)));
using HalfBytes = uint8_t __attribute__((vector_size(kLanes * 2)));
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

inline Shorts load_unsigned(const uint8_t* from) {
  const auto bytes = load_vector<HalfBytes>(from);
#if defined(__AVX512BW__)
  return (Shorts)_mm512_maskz_cvtepu8_epi16(~__mmask32{0}, (__m256i)bytes);
#elif defined(__AVX2__)
  return (Shorts)_mm256_cvtepu8_epi16((__m128i)bytes);
#else
  return __builtin_convertvector(bytes, Shorts);
#endif
}

inline Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }

/// kLanes numbers of 8 bits.
inline Floats load_numbers(const int8_t* row, int64_t d) {
#if defined(__AVX512F__)
  return to_floats((Ints)_mm512_maskz_cvtepi8_epi32(0xffff, load_vector<__m128i>(row + d)));
#elif defined(__AVX2__)
  return to_floats((Ints)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + d))));
#else
  return to_floats(__builtin_convertvector(load_vector<QuarterSignedBytes>(row + d), Ints));
#endif
}

/// kLanes numbers of 4 bits from number d on, all in the same half of their bytes.
inline Floats load_numbers(const uint8_t* row, int64_t d) {
  const uint8_t* from = row + d / kGroup * kHalfGroup + d % kHalfGroup;
  const int shift = d % kGroup < kHalfGroup ? 0 : 4;
#if defined(__AVX512F__)
  // A permutation looks at the lower four bits of its indices.
  const __m512 numbers = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);
  const Words bytes = (Words)_mm512_maskz_cvtepu8_epi32(0xffff, load_vector<__m128i>(from));
  return (Floats)_mm512_maskz_permutexvar_ps(0xffff, (__m512i)(bytes >> shift), numbers);
#elif defined(__AVX2__)
  const Words bytes = (Words)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  return to_floats((Ints)((bytes >> shift) & 15) - 8);
#else
  const Words bytes = __builtin_convertvector(load_vector<QuarterBytes>(from), Words);
  return to_floats((Ints)((bytes >> shift) & 15) - 8);
#endif
}

inline float widen_half(const uint16_t* from) {
#if defined(__F16C__)
  return _cvtsh_ss(load_vector<uint16_t>(from));
#else
  Float16 lanes[kLanes] = {};
  __builtin_memcpy(lanes, from, sizeof *from);
  return load(lanes)[0];
#endif
}

inline void widen_halves(const uint16_t* from, int64_t count, float factor, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    store(to + i, load(reinterpret_cast<const Float16*>(from + i)) * splat(factor));
#if defined(__AVX512F__)
  for (; i + 8 <= count; i += 8) {
    const __m256 halves = _mm256_cvtph_ps((__m128i)load_vector<QuarterBytes>(from + i));
    _mm256_storeu_ps(to + i, halves * _mm256_set1_ps(factor));
  }
#endif
  for (; i < count; ++i) to[i] = widen_half(from + i) * factor;
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

  /// Gathered rows are too short to be followed: those of the step after the next one are asked for, where
  /// Count parts of `part` rows are gone over side by side.
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
    constexpr float kLargest = 32767, kSmallest = 1e-30f;
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

/// x in the order in which a vector of bytes holds its numbers: those of the lower halves, those of the upper
/// ones. start: what the 8 that is added to every number of 4 bits comes to.
struct RoundedHalves {
  alignas(64) int16_t low[kMostNumbers / 2], high[kMostNumbers / 2];
  alignas(64) int32_t start[kMostNumbers / 4];
  int64_t bytes;
  float scale;

  explicit RoundedHalves(const RoundedX& x) : bytes(x.count / 2), scale(x.scale) {
    for (int64_t i = 0; i < x.count / 2; ++i) {
      const int64_t from = i / kHalfGroup * kGroup + i % kHalfGroup;
      low[i] = x.numbers[from];
      high[i] = x.numbers[from + kHalfGroup];
    }
    const Shorts minus_eight = Shorts{} - 8;
    for (int64_t i = 0; i < x.count / 2; i += kShorts) {
      const Ints both = multiply_pairs(load_vector<Shorts>(low + i), minus_eight,
                                       multiply_pairs(load_vector<Shorts>(high + i), minus_eight, Ints{}));
      __builtin_memcpy(start + i / 2, &both, sizeof both);
    }
  }
};

// ---- dot products ----

/// out[i] += the products with the columns from `column` on, for the rows first, first + step, ...
template <int Rows>
inline void dot_some(const QuantizedList<int8_t>& rows, int64_t first, int64_t step, int64_t column,
                     const RoundedX& x, float* out) {
  const int8_t* row[Rows];
  for (int i = 0; i < Rows; ++i) row[i] = rows.row(first + i * step) + column;
  float total[kTogether] = {};
  for (int64_t begin = 0; begin < x.count; begin += kExactNumbers) {
    const int64_t end = x.count < begin + kExactNumbers ? x.count : begin + kExactNumbers;
    Ints sums[kTogether] = {};
    for (int64_t d = begin; d < end; d += kShorts) {
      const auto numbers = load_vector<Shorts>(x.numbers + d);
#pragma GCC unroll 4
      for (int i = 0; i < Rows; ++i) sums[i] = multiply_pairs(load_signed(row[i] + d), numbers, sums[i]);
    }
    int32_t exact[kTogether];
    sum_lanes(sums, exact);
    for (int i = 0; i < Rows; ++i) total[i] += static_cast<float>(exact[i]);
  }
  for (int i = 0; i < Rows; ++i) {
    const int64_t at = first + i * step;
    out[at] += total[i] * (widen_half(rows.scales_of(at)) * x.scale);
  }
}

/// The scales of the groups that a vector of bytes from `byte` on belongs to.
inline Floats scales_at(const float* scales, int64_t byte) {
  const float* first = scales + byte / kHalfGroup;
#if defined(__AVX512F__)
  return (Floats)_mm512_mask_broadcastss_ps(_mm512_set1_ps(first[0]), 0xff00, _mm_load_ss(first + 1));
#else
  return splat(first[0]);
#endif
}

template <int Rows>
inline void dot_some(const QuantizedList<uint8_t>& rows, int64_t first, int64_t step, int64_t column,
                     const RoundedHalves& x, float* out) {
  const uint8_t* row[Rows];
  float scales[Rows][kMostNumbers / kGroup];
  for (int i = 0; i < Rows; ++i) {
    row[i] = rows.row(first + i * step) + column / 2;
    widen_halves(rows.scales_of(first + i * step) + column / kGroup, x.bytes / kHalfGroup, x.scale,
                 scales[i]);
  }
  Floats total[kTogether] = {};
  for (int64_t d = 0; d < x.bytes; d += kShorts) {
    const auto low = load_vector<Shorts>(x.low + d), high = load_vector<Shorts>(x.high + d);
    const auto start = load_vector<Ints>(x.start + d / 2);
#pragma GCC unroll 4
    for (int i = 0; i < Rows; ++i) {
      const Shorts pairs = load_unsigned(row[i] + d);
      const Ints products = multiply_pairs(pairs >> 4, high, multiply_pairs(pairs & 15, low, start));
      total[i] = multiply_add(to_floats(products), scales_at(scales[i], d), total[i]);
    }
  }
  float sums[kTogether];
  sum_lanes(total, sums);
  for (int i = 0; i < Rows; ++i) out[first + i * step] += sums[i];
}

template <class Element, class X>
void dot_chunk(const QuantizedList<Element>& rows, int64_t column, const X& x, float* out) {
  const int64_t part = rows.count / kTogether;
  for (int64_t i = 0; i < part; ++i) {
    rows.template prefetch_after<kTogether>(i, part);
    dot_some<kTogether>(rows, i, part, column, x, out);
  }
  for (int64_t i = part * kTogether; i < rows.count; ++i) dot_some<1>(rows, i, 0, column, x, out);
}

template <class Element>
void dot_quantized(const QuantizedList<Element>& rows, int64_t width, const float* x, float* out) {
  for (int64_t i = 0; i < rows.count; ++i) out[i] = 0;
  for (int64_t column = 0; column < width; column += kMostNumbers) {
    const RoundedX rounded(x + column, width - column < kMostNumbers ? width - column : kMostNumbers);
    if constexpr (std::is_same_v<Element, int8_t>) {
      dot_chunk(rows, column, rounded, out);
    } else {
      dot_chunk(rows, column, RoundedHalves(rounded), out);
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
  for (int i = 0; i < Count; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v)  // NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage): weigh set it
      total[v] = multiply_add(load_numbers(row[i], d + v * kLanes), splat(weights[i][group]), total[v]);
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
