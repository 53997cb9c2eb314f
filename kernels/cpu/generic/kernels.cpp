// The CPU kernels, written once and compiled for each instruction set (CMake defines BDH_ISA as its name).
// Only internal linkage but for the table: see simd.h.
#include "kernels/cpu/kernels.h"

#include <cmath>

#include "kernels/cpu/generic/flush.h"
#include "kernels/cpu/generic/products.h"
#include "kernels/cpu/generic/quantized_rows.h"
#include "kernels/cpu/generic/rows.h"
#include "kernels/cpu/generic/simd.h"
#include "kernels/cpu/generic/sine_cosine.h"
#include "kernels/cpu/isa_name.h"

namespace bdh::cpu {
namespace {

// ---- the products of one token, or of one of each sequence ----

void dot_floats(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const float* x,
                float* out) {
  switch (rows.dtype) {
    case DType::bf16:
      if (DividedXs::fit(1, width)) {
        const DividedXs divided({x, 0}, 1, width);
        return dot_rows<BFloat16>(rows, index, count, width, divided[0], out);
      }
      return dot_rows<BFloat16>(rows, index, count, width, x, out);
    case DType::f16:
      return dot_rows<Float16>(rows, index, count, width, x, out);
    default:
      return dot_rows<float>(rows, index, count, width, x, out);
  }
}

void dot_rows_any(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const float* x,
                  float* out) {
  const bool quantized = rows.dtype == DType::i8 || rows.dtype == DType::u8;
  (quantized ? dot_quantized_rows : dot_floats)(rows, index, count, width, x, out);
}

#ifdef BDH_MINIMAL
void dot_rows_by_all(const Rows& rows, int64_t count, int64_t width, const float* x, int64_t x_count,
                     float* out, int64_t out_stride) {
  for (int64_t k = 0; k < x_count; ++k)
    dot_floats(rows, nullptr, count, width, x + k * width, out + k * out_stride);
}
constexpr decltype(Kernels::dot_pairs) dot_pairs = nullptr;
#else
template <class Element>
void dot_by_all(const Rows& rows, int64_t count, int64_t width, const Xs& x, int64_t x_count, float* out,
                int64_t out_stride) {
  in_groups<Element>(x, x_count, width, [&](const auto& some, int64_t some_count, int64_t k) {
    dot_rows_by_several<Element>(rows, count, width, some, some_count, out + k * out_stride, out_stride);
  });
}

void dot_rows_by_all(const Rows& rows, int64_t count, int64_t width, const float* x, int64_t x_count,
                     float* out, int64_t out_stride) {
  if (x_count == 1) return dot_floats(rows, nullptr, count, width, x, out);
  switch (rows.dtype) {
    case DType::bf16:
      return dot_by_all<BFloat16>(rows, count, width, {x, width}, x_count, out, out_stride);
    case DType::f16:
      return dot_by_all<Float16>(rows, count, width, {x, width}, x_count, out, out_stride);
    default:
      return dot_by_all<float>(rows, count, width, {x, width}, x_count, out, out_stride);
  }
}

void dot_pairs(const Rows& rows, const DotPair* pairs, int64_t count, int64_t width, const float* x,
               int64_t x_stride, int64_t x_count, float* out, int64_t out_stride) {
  const Xs xs{x, x_stride};
  switch (rows.dtype) {
    case DType::bf16:
      return dot_pairs_of<BFloat16>(rows, pairs, count, width, DividedXs(xs, x_count, width), out,
                                    out_stride);
    case DType::f16:
      return dot_pairs_of<Float16>(rows, pairs, count, width, xs, out, out_stride);
    default:
      return dot_pairs_of<float>(rows, pairs, count, width, xs, out, out_stride);
  }
}
#endif

void accumulate_rows_any(const Rows& rows, const int32_t* index, const float* scale, int64_t count,
                         int64_t width, float* out) {
  switch (rows.dtype) {
    case DType::bf16:
      return accumulate_rows<BFloat16>(rows, index, scale, count, width, out);
    case DType::f16:
      return accumulate_rows<Float16>(rows, index, scale, count, width, out);
    case DType::i8:
    case DType::u8:
      return accumulate_quantized_rows(rows, index, scale, count, width, out);
    default:
      return accumulate_rows<float>(rows, index, scale, count, width, out);
  }
}

// ---- rotation (spec: pair (2i, 2i+1) rotated by 2 pi frac(t f_i); the phase is rounded as float32 at each
// step) ----

// One vector of neurons: n = relu(n), r = n rotated.
void rotate_lanes(float* n, const SineCosine& t, Floats sign, float* r) {
  const Floats value = relu(load(n));
  store(n, value);
  store(r, value * t.cosine + shuffle_lanes<1>(value) * sign * t.sine);
}

void rotate(float* n, const float* freqs, int64_t count, float position, float* r) {
  const Floats sign = alternating_sign();
  for (int64_t i = 0; i < count; i += kLanes)
    rotate_lanes(n + i, sine_cosine_at(splat(position), load(freqs + i)), sign, r + i);
}

void rotate_by(float* n, const float* angles, int64_t count, float* r) {
  const Floats sign = alternating_sign();
  for (int64_t i = 0; i < count; i += kLanes) rotate_lanes(n + i, sine_cosine(load(angles + i)), sign, r + i);
}

// ---- the rest ----

#if defined(__AVX512F__)
int64_t compact(const float* values, const int32_t* index, int64_t count, float* kept, int32_t* kept_index) {
  int64_t active = 0;
  __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t i = 0; i < count; i += kLanes, places = _mm512_add_epi32(places, _mm512_set1_epi32(kLanes))) {
    const auto inside = static_cast<__mmask16>(count - i < kLanes ? (1u << (count - i)) - 1 : 0xffffu);
    const __m512 some = _mm512_maskz_loadu_ps(inside, values + i);
    const __m512i from = index ? _mm512_maskz_loadu_epi32(inside, index + i) : places;
    const __mmask16 chosen = _mm512_cmp_ps_mask(some, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    _mm512_storeu_ps(kept + active, _mm512_maskz_compress_ps(chosen, some));
    _mm512_storeu_si512(kept_index + active, _mm512_maskz_compress_epi32(chosen, from));
    active += __builtin_popcount(chosen);
  }
  return active;
}
#else
#if defined(__AVX2__)
// For each mask of lanes those that are in it, first to last.
struct LanesOfMask {
  alignas(8) uint8_t lane[1 << 8][8] = {};
  constexpr LanesOfMask() {
    for (int mask = 0; mask < 1 << 8; ++mask) {
      for (int i = 0, count = 0; i < 8; ++i)
        if (mask >> i & 1) lane[mask][count++] = static_cast<uint8_t>(i);
    }
  }
};
constexpr LanesOfMask kLanesOfMask;
#endif

int64_t compact(const float* values, const int32_t* index, int64_t count, float* kept, int32_t* kept_index) {
  int64_t active = 0, i = 0;
#if defined(__AVX2__)
  __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (; i + kLanes <= count; i += kLanes, places = _mm256_add_epi32(places, _mm256_set1_epi32(kLanes))) {
    const Floats some = load(values + i);
    const auto from = index ? load_vector<__m256i>(index + i) : places;
    const uint32_t chosen = nonzero_lanes(some);
    const __m256i order =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(kLanesOfMask.lane[chosen])));
    store(kept + active, (Floats)_mm256_permutevar8x32_ps((__m256)some, order));
    _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(kept_index + active),
                        _mm256_permutevar8x32_epi32(from, order));
    active += __builtin_popcount(chosen);
  }
#endif
  for (; i < count; ++i) {
    const float value = values[i];
    kept_index[active] = index ? index[i] : static_cast<int32_t>(i);
    kept[active] = value;
    active += value != 0.0f;
  }
  return active;
}
#endif

int64_t count_active(const float* rows, int64_t stride, int64_t count, int64_t tokens) {
  int64_t active = 0;
  for (int64_t i = 0; i < count; ++i, rows += stride) {
    Ints lanes = {};
    for (int64_t t = 0; t < tokens; t += kLanes) lanes -= load(rows + t) != Floats{};
    active += sum(lanes);
  }
  return active;
}

void norm(const float* x, int64_t width, int64_t padded, float* out) {
  Floats total = {};
  for (int64_t d = 0; d < padded; d += kLanes) total += load(x + d);
  const float mean = sum(total) / static_cast<float>(width);
  for (int64_t d = 0; d < padded; d += kLanes) store(out + d, load(x + d) - mean);
  for (int64_t d = width; d < padded; ++d) out[d] = 0.0f;
  Floats squares = {};
  for (int64_t d = 0; d < padded; d += kLanes) squares = multiply_add(load(out + d), load(out + d), squares);
  const float scale = 1.0f / std::sqrt(sum(squares) / static_cast<float>(width) + 1e-5f);
  for (int64_t d = 0; d < padded; d += kLanes) store(out + d, load(out + d) * scale);
}

template <class Element>
void widen_rows(const Element* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += kLanes) store(to + i, load(from + i));
}

void widen(const void* from, DType dtype, int64_t count, float* to) {
  switch (dtype) {
    case DType::bf16:
      return widen_rows(static_cast<const BFloat16*>(from), count, to);
    case DType::f16:
      return widen_rows(static_cast<const Float16*>(from), count, to);
    default:
      return widen_rows(static_cast<const float*>(from), count, to);
  }
}

void narrow(const float* from, int64_t count, uint16_t* to) {
  auto* rounded = reinterpret_cast<BFloat16*>(to);
  for (int64_t i = 0; i < count; i += kLanes) store(rounded + i, load(from + i));
}

}  // namespace

extern const Kernels BDH_CONCAT(kernels_, BDH_ISA);
const Kernels BDH_CONCAT(kernels_, BDH_ISA) = {
    BDH_STRING(BDH_ISA),
    dot_rows_any,
    dot_rows_by_all,
    dot_pairs,
    accumulate_rows_any,
    multiply,
    add_sparse,
    rotate,
    rotate_by,
    encode,
    gate,
    flush,
    decay,
    compact,
    count_active,
    norm,
    widen,
    narrow,
    widen_quantized,
};

}  // namespace bdh::cpu
