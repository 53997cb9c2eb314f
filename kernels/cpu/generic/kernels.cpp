// The CPU kernels, written once and compiled for each instruction set (CMake defines BDH_ISA as its name).
// Only internal linkage but for the table: see simd.h.
#include "kernels/cpu/kernels.h"

#include <cmath>

#include "kernels/cpu/generic/products.h"
#include "kernels/cpu/generic/quantized_rows.h"
#include "kernels/cpu/generic/simd.h"
#include "kernels/cpu/generic/sine_cosine.h"

namespace bdh::cpu {
namespace {

// ---- rows: the products of one token, limited by how fast the rows arrive from memory ----
//
// The processor's own prefetching follows rows in the order of memory only so far, and not at all where
// inactive rows are skipped: the rows to come are asked for by hand, into the second cache.

enum class Order { dense, gathered, either };  // either: asked at every row, which makes less code

template <class Element, Order order>
struct RowList {
  const Element* data;
  int64_t stride;
  const int32_t* index;
  int64_t count;
  int64_t row_bytes;
  int64_t ahead;  // rows

  RowList(const Rows& rows, const int32_t* list, int64_t rows_in_it, int64_t width)
      : data(static_cast<const Element*>(rows.data)),
        stride(rows.stride),
        index(list),
        count(rows_in_it),
        row_bytes(width * static_cast<int64_t>(sizeof(Element))),
        ahead(rows_ahead(row_bytes)) {}

  const Element* operator[](int64_t i) const {
    if constexpr (order == Order::either) return data + (index ? index[i] : i) * stride;
    return data + (order == Order::dense ? i : index[i]) * stride;
  }

  [[gnu::always_inline]] void prefetch_after(int64_t i) const {
    if (i + ahead >= count) return;
    prefetch_bytes((*this)[i + ahead], row_bytes);
  }
};

constexpr int kXs = kLanes == 16 ? 4 : 2;  // x that are multiplied with the same rows at once

// Rows that are multiplied side by side, each with a sum of its own: enough to hide the latency of a
// multiply-add. A row's sum does not depend on which rows it is together with.
template <int Count, class Element, Order order>
void dot_some(const RowList<Element, order>& rows, int64_t first, int64_t width, const float* x, float* out) {
  const Element* row[Count];
  for (int i = 0; i < Count; ++i) row[i] = rows[first + i];
  Floats total[kTogether] = {};
  for (int64_t d = 0; d < width; d += kLanes) {
    const Floats numbers = load(x + d);
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i) total[i] = multiply_add(load(row[i] + d), numbers, total[i]);
  }
  float sums[kTogether];
  sum_lanes(total, sums);
  for (int i = 0; i < Count; ++i) out[first + i] = sums[i];
}

// X: what dot_some takes for x.
template <class X, class Element, Order order>
void dot_rows(const RowList<Element, order>& rows, int64_t width, const X& x, float* out) {
  int64_t i = 0;
  for (; i + kTogether <= rows.count; i += kTogether) {
    for (int j = 0; j < kTogether; ++j) rows.prefetch_after(i + j);
    dot_some<kTogether>(rows, i, width, x, out);
  }
  for (; i < rows.count; ++i) dot_some<1>(rows, i, width, x, out);
}

// The same for Xs x at once: a row is read once for all of them.
template <int Xs, class Element>
void dot_some_by_all(const RowList<Element, Order::dense>& rows, int64_t first, int64_t width, const float* x,
                     float* out, int64_t out_stride) {
  Floats total[Xs][kTogether] = {};
  for (int64_t d = 0; d < width; d += kLanes) {
    Floats row[kTogether];
#pragma GCC unroll 4
    for (int i = 0; i < kTogether; ++i) row[i] = load(rows[first + i] + d);
#pragma GCC unroll 4
    for (int k = 0; k < Xs; ++k) {
      const Floats numbers = load(x + k * width + d);
#pragma GCC unroll 4
      for (int i = 0; i < kTogether; ++i) total[k][i] = multiply_add(row[i], numbers, total[k][i]);
    }
  }
  for (int k = 0; k < Xs; ++k) {
    float sums[kTogether];
    sum_lanes(total[k], sums);
    for (int i = 0; i < kTogether; ++i) out[k * out_stride + first + i] = sums[i];
  }
}

template <int Vectors, class Element, Order order>
void accumulate_columns(const RowList<Element, order>& rows, const float* scale, int64_t column, float* out) {
  Floats total[Vectors];
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) total[v] = load(out + column + v * kLanes);
  for (int64_t i = 0; i < rows.count; ++i) {
    if (column == 0) rows.prefetch_after(i);
    const Element* row = rows[i] + column;
    const Floats weight = splat(scale ? scale[i] : 1.0f);
#pragma GCC unroll 16
    for (int v = 0; v < Vectors; ++v) total[v] = multiply_add(load(row + v * kLanes), weight, total[v]);
  }
#pragma GCC unroll 16
  for (int v = 0; v < Vectors; ++v) store(out + column + v * kLanes, total[v]);
}

// Columns from `column` on: as many whole blocks of Vectors as there are, then blocks of half the size.
template <int Vectors, class Element, Order order>
void accumulate_from(const RowList<Element, order>& rows, const float* scale, int64_t column, int64_t width,
                     float* out) {
  for (; column + Vectors * kLanes <= width; column += Vectors * kLanes) {
    accumulate_columns<Vectors>(rows, scale, column, out);
  }
  if constexpr (Vectors > 1) accumulate_from<Vectors / 2>(rows, scale, column, width, out);
}

// bfloat16 rows are read as words of two numbers each, which a shift and a mask make floats; x is divided
// into its even and its odd numbers once for all rows.
constexpr int64_t kMostDivided = 4096;

struct DividedX {
  alignas(64) float even[kMostDivided / 2], odd[kMostDivided / 2];

  void divide(const float* x, int64_t width) {
    for (int64_t d = 0; d < width; d += 2 * kLanes) {
      const Floats upper = d + kLanes < width ? load(x + d + kLanes) : Floats{};
      store(even + d / 2, every_second_lane<0>(load(x + d), upper));
      store(odd + d / 2, every_second_lane<1>(load(x + d), upper));
    }
  }
};

template <int Count, Order order>
void dot_some(const RowList<BFloat16, order>& rows, int64_t first, int64_t width, const DividedX& x,
              float* out) {
  const BFloat16* row[Count];
  for (int i = 0; i < Count; ++i) row[i] = rows[first + i];
  Floats total[kTogether] = {};
  for (int64_t d = 0; d < width; d += 2 * kLanes) {
    const Floats even = load(x.even + d / 2), odd = load(x.odd + d / 2);
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i) {
      const Words words = load_words(row[i] + d, width - d);
      total[i] = multiply_add((Floats)(words << 16), even, total[i]);
      total[i] = multiply_add((Floats)(words & 0xffff0000), odd, total[i]);
    }
  }
  float sums[kTogether];
  sum_lanes(total, sums);
  for (int i = 0; i < Count; ++i) out[first + i] = sums[i];
}

template <int Xs>
void dot_some_by_all(const RowList<BFloat16, Order::dense>& rows, int64_t first, int64_t width,
                     const DividedX* x, float* out, int64_t out_stride) {
  Floats total[Xs][kTogether] = {};
  for (int64_t d = 0; d < width; d += 2 * kLanes) {
    Floats even[kTogether], odd[kTogether];
#pragma GCC unroll 4
    for (int i = 0; i < kTogether; ++i) {
      const Words words = load_words(rows[first + i] + d, width - d);
      even[i] = (Floats)(words << 16);
      odd[i] = (Floats)(words & 0xffff0000);
    }
#pragma GCC unroll 4
    for (int k = 0; k < Xs; ++k) {
      const Floats x_even = load(x[k].even + d / 2), x_odd = load(x[k].odd + d / 2);
#pragma GCC unroll 4
      for (int i = 0; i < kTogether; ++i) {
        total[k][i] = multiply_add(even[i], x_even, total[k][i]);
        total[k][i] = multiply_add(odd[i], x_odd, total[k][i]);
      }
    }
  }
  for (int k = 0; k < Xs; ++k) {
    float sums[kTogether];
    sum_lanes(total[k], sums);
    for (int i = 0; i < kTogether; ++i) out[k * out_stride + first + i] = sums[i];
  }
}

bool dot_divided_rows(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const float* x,
                      float* out) {
  if (width > kMostDivided) return false;
  DividedX divided;
  divided.divide(x, width);
  if (index) {
    dot_rows(RowList<BFloat16, Order::gathered>(rows, index, count, width), width, divided, out);
  } else {
    dot_rows(RowList<BFloat16, Order::dense>(rows, index, count, width), width, divided, out);
  }
  return true;
}

template <class Element>
void dot_rows(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const float* x,
              float* out) {
  if (index) return dot_rows(RowList<Element, Order::gathered>(rows, index, count, width), width, x, out);
  dot_rows(RowList<Element, Order::dense>(rows, index, count, width), width, x, out);
}

template <class Element>
void accumulate_rows(const Rows& rows, const int32_t* index, const float* scale, int64_t count, int64_t width,
                     float* out) {
  accumulate_from<kHeld>(RowList<Element, Order::either>(rows, index, count, width), scale, 0, width, out);
}

void dot_rows_any(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const float* x,
                  float* out) {
  switch (rows.dtype) {
    case DType::bf16:
      if (dot_divided_rows(rows, index, count, width, x, out)) return;
      return dot_rows<BFloat16>(rows, index, count, width, x, out);
    case DType::f16:
      return dot_rows<Float16>(rows, index, count, width, x, out);
    case DType::i8:
    case DType::u8:
      return dot_quantized_rows(rows, index, count, width, x, out);
    default:
      return dot_rows<float>(rows, index, count, width, x, out);
  }
}

#ifdef BDH_MINIMAL
int64_t dot_rows_by_some(const Rows&, int64_t, int64_t, const float*, int64_t, float*, int64_t) { return 0; }
#else
// X: floats, one x after the other, or a DividedX for each.
template <class Element, class X>
void dot_rows_by_few(const Rows& rows, int64_t count, int64_t width, const X* x, float* out,
                     int64_t out_stride) {
  const RowList<Element, Order::dense> list(rows, nullptr, count, width);
  for (int64_t i = 0; i + kTogether <= count; i += kTogether) {
    for (int j = 0; j < kTogether; ++j) list.prefetch_after(i + j);
    dot_some_by_all<kXs>(list, i, width, x, out, out_stride);
  }
}

// Whole groups of kXs of the x; returns how many x that are.
int64_t dot_rows_by_some(const Rows& rows, int64_t count, int64_t width, const float* x, int64_t x_count,
                         float* out, int64_t out_stride) {
  const bool divided = rows.dtype == DType::bf16 && width <= kMostDivided;
  if ((!divided && rows.dtype != DType::f32) || count % kTogether != 0) return 0;
  int64_t k = 0;
  for (; k + kXs <= x_count; k += kXs) {
    float* to = out + k * out_stride;
    if (!divided) {
      dot_rows_by_few<float>(rows, count, width, x + k * width, to, out_stride);
      continue;
    }
    DividedX parts[kXs];
    for (int i = 0; i < kXs; ++i) parts[i].divide(x + (k + i) * width, width);
    dot_rows_by_few<BFloat16>(rows, count, width, parts, to, out_stride);
  }
  return k;
}
#endif

void dot_rows_by_all(const Rows& rows, int64_t count, int64_t width, const float* x, int64_t x_count,
                     float* out, int64_t out_stride) {
  int64_t k = dot_rows_by_some(rows, count, width, x, x_count, out, out_stride);
  for (; k < x_count; ++k) dot_rows_any(rows, nullptr, count, width, x + k * width, out + k * out_stride);
}

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

// Magnitudes compare as their bits do, which is the cheapest comparison.
void decay(float* values, int64_t count, float factor) {
  const Ints smallest = (Ints)splat(kSmallest), magnitude = Ints{} + INT32_MAX;
#pragma GCC unroll 4
  for (int64_t i = 0; i < count; i += kLanes) {
    const Ints value = (Ints)(load(values + i) * splat(factor));
    store(values + i, (Floats)(value & ((value & magnitude) > smallest)));
  }
}

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
int64_t compact(const float* values, const int32_t* index, int64_t count, float* kept, int32_t* kept_index) {
  int64_t active = 0;
  for (int64_t i = 0; i < count; ++i) {
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
  for (int64_t i = 0; i < count; i += kLanes) {
    const Words bits = (Words)load(from + i);
    const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const Words number = (Words)((bits & 0x7fffffff) <= 0x7f800000);  // not NaN
    const Halves halves = __builtin_convertvector((rounded & number) | (0x7fc0 & ~number), Halves);
    __builtin_memcpy(to + i, &halves, sizeof halves);
  }
}

}  // namespace

#define BDH_CONCAT2(a, b) a##b
#define BDH_CONCAT(a, b) BDH_CONCAT2(a, b)
#define BDH_STRING2(a) #a
#define BDH_STRING(a) BDH_STRING2(a)

extern const Kernels BDH_CONCAT(kernels_, BDH_ISA);
const Kernels BDH_CONCAT(kernels_, BDH_ISA) = {
    BDH_STRING(BDH_ISA),
    dot_rows_any,
    dot_rows_by_all,
    accumulate_rows_any,
    multiply,
    add_sparse,
    rotate,
    rotate_by,
    encode,
    gate,
    decay,
    compact,
    count_active,
    norm,
    widen,
    narrow,
    widen_quantized,
};

}  // namespace bdh::cpu
