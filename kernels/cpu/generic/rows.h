// Products of rows of floats, in float32 or 16 bits, with one x or several: limited by how fast rows arrive.
// Internal linkage: see simd.h.
//
// The processor's own prefetching follows rows in the order of memory only so far, and not at all where
// inactive rows are skipped: the rows to come are asked for by hand, into the second cache.
#pragma once

#include <algorithm>

#include "kernels/cpu/generic/simd.h"
#include "kernels/cpu/kernels.h"

namespace bdh::cpu {
namespace {

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

// ---- x, as rows want it ----

// Several x, `step` numbers from one to the next.
struct Xs {
  const float* numbers;
  int64_t step;
  const float* operator[](int64_t k) const { return numbers + k * step; }
};

// bfloat16 rows are read as words of two numbers each, which a shift and a mask make floats; x is divided
// into its even and its odd numbers once for all rows.
struct DividedX {
  const float *even, *odd;
};

struct DividedXs {
  alignas(64) float numbers[kMostNumbersOfX];
  int64_t half;

  static int64_t half_of(int64_t width) { return (width + 2 * kLanes - 1) / (2 * kLanes) * kLanes; }
  static bool fit(int64_t count, int64_t width) { return 2 * count * half_of(width) <= kMostNumbersOfX; }

  DividedXs(const Xs& x, int64_t count, int64_t width) : half(half_of(width)) {
    for (int64_t k = 0; k < count; ++k) {
      for (int64_t d = 0; d < width; d += 2 * kLanes) {
        const Floats lower = load(x[k] + d), upper = d + kLanes < width ? load(x[k] + d + kLanes) : Floats{};
        store(numbers + 2 * k * half + d / 2, every_second_lane<0>(lower, upper));
        store(numbers + (2 * k + 1) * half + d / 2, every_second_lane<1>(lower, upper));
      }
    }
  }
  DividedX operator[](int64_t k) const { return {numbers + 2 * k * half, numbers + (2 * k + 1) * half}; }
};

// ---- dot products ----
//
// Each has a sum of its own, which does not depend on which others are made side by side with it; as many are
// as hide the latency of a multiply-add.

template <int Count, class Element>
void dot_some(const Element* const (&row)[Count], int64_t width, const float* x, float* out) {
  Floats total[kTogether] = {};
  for (int64_t d = 0; d < width; d += kLanes) {
    const Floats numbers = load(x + d);
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i) total[i] = multiply_add(load(row[i] + d), numbers, total[i]);
  }
  float sums[kTogether];
  sum_lanes(total, sums);
  for (int i = 0; i < Count; ++i) out[i] = sums[i];
}

template <int Count>
void dot_some(const BFloat16* const (&row)[Count], int64_t width, const DividedX& x, float* out) {
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
  for (int i = 0; i < Count; ++i) out[i] = sums[i];
}

template <int Count, class Element, Order order, class X>
void dot_rows_from(const RowList<Element, order>& rows, int64_t first, int64_t width, const X& x,
                   float* out) {
  const Element* row[Count];
  for (int i = 0; i < Count; ++i) row[i] = rows[first + i];
  dot_some(row, width, x, out + first);
}

template <class Element, Order order, class X>
void dot_list(const RowList<Element, order>& rows, int64_t width, const X& x, float* out) {
  int64_t i = 0;
  for (; i + kTogether <= rows.count; i += kTogether) {
    for (int j = 0; j < kTogether; ++j) rows.prefetch_after(i + j);
    dot_rows_from<kTogether>(rows, i, width, x, out);
  }
  for (; i < rows.count; ++i) dot_rows_from<1>(rows, i, width, x, out);
}

template <class Element, class X>
void dot_rows(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const X& x, float* out) {
  if (index) return dot_list(RowList<Element, Order::gathered>(rows, index, count, width), width, x, out);
  dot_list(RowList<Element, Order::dense>(rows, index, count, width), width, x, out);
}

// ---- the same with several x ----

#ifndef BDH_MINIMAL
// x that are multiplied with the same rows at once: as many sums as there are registers for.
// NOLINTNEXTLINE(misc-definitions-in-headers): one value in each object
constexpr int kXs = kLanes == 16 ? 4 : kLanes == 8 ? 3 : 2;

// x: from the first of kXs on.
template <class Element>
void dot_block(const Element* const (&row)[kTogether], int64_t width, const Xs& x, int64_t first,
               Floats (&total)[kXs][kTogether]) {
  for (int64_t d = 0; d < width; d += kLanes) {
    Floats numbers[kXs];
#pragma GCC unroll 4
    for (int k = 0; k < kXs; ++k) numbers[k] = load(x[first + k] + d);
#pragma GCC unroll 4
    for (int i = 0; i < kTogether; ++i) {
      const Floats some = load(row[i] + d);
#pragma GCC unroll 4
      for (int k = 0; k < kXs; ++k) total[k][i] = multiply_add(some, numbers[k], total[k][i]);
    }
  }
}

inline void dot_block(const BFloat16* const (&row)[kTogether], int64_t width, const DividedXs& x,
                      int64_t first, Floats (&total)[kXs][kTogether]) {
  const float* from = x[first].even;
  for (int64_t d = 0; d < width; d += 2 * kLanes, from += kLanes) {
#pragma GCC unroll 4
    for (int i = 0; i < kTogether; ++i) {
      const Words words = load_words(row[i] + d, width - d);
      const Floats even = (Floats)(words << 16), odd = (Floats)(words & 0xffff0000);
#pragma GCC unroll 4
      for (int k = 0; k < kXs; ++k) {
        total[k][i] = multiply_add(even, load(from + 2 * k * x.half), total[k][i]);
        total[k][i] = multiply_add(odd, load(from + (2 * k + 1) * x.half), total[k][i]);
      }
    }
  }
}

// A few rows stay in the first cache while all x are multiplied with them. Several: Xs or DividedXs.
template <class Element, class Several>
void dot_rows_by_several(const Rows& rows, int64_t count, int64_t width, const Several& x, int64_t x_count,
                         float* out, int64_t out_stride) {
  const RowList<Element, Order::dense> list(rows, nullptr, count, width);
  int64_t i = 0;
  for (; i + kTogether <= count; i += kTogether) {
    const Element* row[kTogether];
    for (int j = 0; j < kTogether; ++j) {
      list.prefetch_after(i + j);
      row[j] = list[i + j];
    }
    int64_t k = 0;
    for (; k + kXs <= x_count; k += kXs) {
      Floats total[kXs][kTogether] = {};
      dot_block(row, width, x, k, total);
#pragma GCC unroll 4
      for (int j = 0; j < kXs; ++j) {
        float sums[kTogether];
        sum_lanes(total[j], sums);
        __builtin_memcpy(out + (k + j) * out_stride + i, sums, sizeof sums);
      }
    }
    for (; k < x_count; ++k) dot_some(row, width, x[k], out + k * out_stride + i);
  }
  for (; i < count; ++i) {
    for (int64_t k = 0; k < x_count; ++k) dot_rows_from<1>(list, i, width, x[k], out + k * out_stride);
  }
}

// Calls go(x, count, k) for whole x that stay in the first cache, from the k-th on, as rows of that dtype
// want them.
template <class Element, class Go>
void in_groups(const Xs& x, int64_t x_count, int64_t width, const Go& go) {
  const int64_t group = std::max<int64_t>(1, kMostNumbersOfX / (2 * DividedXs::half_of(width)));
  for (int64_t k = 0; k < x_count; k += group) {
    const int64_t count = std::min(group, x_count - k);
    const Xs some{x[k], x.step};
    if constexpr (std::is_same_v<Element, BFloat16>) {
      if (DividedXs::fit(count, width)) {  // one that is too long is read as it is
        go(DividedXs(some, count, width), count, k);
        continue;
      }
    }
    go(some, count, k);
  }
}

// ---- pairs of a row and an x ----

// Four pairs: of one row, or of whichever rows they are.
template <bool one_row, class Element>
void dot_four(const Element* const (&row)[kTogether], int64_t width, const float* const (&x)[kTogether],
              float (&sums)[kTogether]) {
  Floats total[kTogether] = {};
  for (int64_t d = 0; d < width; d += kLanes) {
    const Floats shared = load(row[0] + d);
#pragma GCC unroll 4
    for (int i = 0; i < kTogether; ++i)
      total[i] = multiply_add(one_row ? shared : load(row[i] + d), load(x[i] + d), total[i]);
  }
  sum_lanes(total, sums);
}

template <bool one_row>
void dot_four(const BFloat16* const (&row)[kTogether], int64_t width, const DividedX (&x)[kTogether],
              float (&sums)[kTogether]) {
  Floats total[kTogether] = {};
  for (int64_t d = 0; d < width; d += 2 * kLanes) {
    const Words shared = load_words(row[0] + d, width - d);
#pragma GCC unroll 4
    for (int i = 0; i < kTogether; ++i) {
      const Words words = one_row ? shared : load_words(row[i] + d, width - d);
      total[i] = multiply_add((Floats)(words << 16), load(x[i].even + d / 2), total[i]);
      total[i] = multiply_add((Floats)(words & 0xffff0000), load(x[i].odd + d / 2), total[i]);
    }
  }
  sum_lanes(total, sums);
}

template <class Element, class Several>
void dot_pairs_of(const Rows& rows, const DotPair* pairs, int64_t count, int64_t width, const Several& x,
                  float* out, int64_t out_stride) {
  constexpr int64_t kPairsAhead = 32;
  const RowList<Element, Order::dense> list(rows, nullptr, INT64_MAX, width);
  for (int64_t j = 0; j < count; j += kTogether) {
    const Element* row[kTogether];
    std::decay_t<decltype(x[0])> its_x[kTogether];
    for (int64_t i = 0; i < kTogether; ++i) {
      const DotPair pair = pairs[std::min(j + i, count - 1)];
      row[i] = list[pair.row];
      its_x[i] = x[pair.x];
      const int64_t later = j + i + kPairsAhead;
      if (later < count && pairs[later].row != pairs[later - 1].row)
        prefetch_bytes(list[pairs[later].row], list.row_bytes);
    }
    float sums[kTogether];
    if (row[0] == row[kTogether - 1]) {
      dot_four<true>(row, width, its_x, sums);
    } else {
      dot_four<false>(row, width, its_x, sums);
    }
    for (int64_t i = 0; i < kTogether && j + i < count; ++i)
      out[pairs[j + i].x * out_stride + pairs[j + i].row] = sums[i];
  }
}
#endif

// ---- sums of rows ----

// Sums of a few columns, which stay in registers while rows pass.
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

// The same sums of rows that are too long for that, a few whole rows at a time.
template <int Count, class Element, Order order>
void accumulate_some(const RowList<Element, order>& rows, const float* scale, int64_t first, int64_t width,
                     float* out) {
  const Element* row[Count];
  Floats weight[Count];
  for (int i = 0; i < Count; ++i) {
    rows.prefetch_after(first + i);
    row[i] = rows[first + i];
    weight[i] = splat(scale ? scale[first + i] : 1.0f);
  }
  for (int64_t d = 0; d < width; d += kLanes) {
    Floats total = load(out + d);
#pragma GCC unroll 4
    for (int i = 0; i < Count; ++i) total = multiply_add(load(row[i] + d), weight[i], total);
    store(out + d, total);
  }
}

template <class Element>
void accumulate_rows(const Rows& rows, const int32_t* index, const float* scale, int64_t count, int64_t width,
                     float* out) {
  const RowList<Element, Order::either> list(rows, index, count, width);
  if (width <= kHeld * kLanes) return accumulate_from<kHeld>(list, scale, 0, width, out);
  int64_t i = 0;
  for (; i + kTogether <= count; i += kTogether) accumulate_some<kTogether>(list, scale, i, width, out);
  for (; i < count; ++i) accumulate_some<1>(list, scale, i, width, out);
}

}  // namespace
}  // namespace bdh::cpu
