// Products of rows of floats, in float32 or 16 bits, with one x or several: limited by how fast rows arrive.
// Internal linkage: see simd.h.
//
// A list of rows is divided into parts of the same length, which are gone over side by side: each is a stream
// that the processor's own prefetching follows, over inactive rows too. Neighbours side by side share a page,
// where it does not. Gathered rows are asked for ahead as well, as that prefetching goes past a row's end,
// but not to where the next one begins.
#pragma once

#include <algorithm>

#include "kernels/cpu/generic/simd.h"
#include "kernels/cpu/kernels.h"

namespace bdh::cpu {
namespace {

template <class Element>
struct RowList {
  const Element* data;
  int64_t stride;
  const int32_t* index;
  int64_t count;

  RowList(const Rows& rows, const int32_t* list, int64_t rows_in_it)
      : data(static_cast<const Element*>(rows.data)), stride(rows.stride), index(list), count(rows_in_it) {}

  const Element* operator[](int64_t i) const { return data + (index ? index[i] : i) * stride; }

  /// Asks at step i, of Count parts of `part` rows, for the step that lies kAhead bytes of each part ahead,
  /// and at first for those up to it.
  template <int Count>
  [[gnu::always_inline]] void prefetch_after(int64_t i, int64_t part, int64_t width) const {
    if (!index) return;
    constexpr int64_t kAhead = 1024;
    const int64_t bytes = width * static_cast<int64_t>(sizeof(Element));
    const int64_t ahead = i + std::max<int64_t>(1, kAhead / bytes);
    for (int64_t step = i == 0 ? 1 : ahead; step <= std::min(ahead, part - 1); ++step) {
      for (int j = 0; j < Count; ++j) prefetch_bytes((*this)[step + j * part], bytes);
    }
  }

  /// Rows first, first + step, ...
  template <int Count>
  void take(int64_t first, int64_t step, const Element* (&row)[Count]) const {
    for (int i = 0; i < Count; ++i) row[i] = (*this)[first + i * step];
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
  Floats total[summed(Count)] = {};
  for (int64_t d = 0; d < width; d += kLanes) {
    const Floats numbers = load(x + d);
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) total[i] = multiply_add(load(row[i] + d), numbers, total[i]);
  }
  sum_lanes<Count>(total, out);
}

template <int Count>
void dot_some(const BFloat16* const (&row)[Count], int64_t width, const DividedX& x, float* out) {
  Floats total[summed(Count)] = {};
  for (int64_t d = 0; d < width; d += 2 * kLanes) {
    const Floats even = load(x.even + d / 2), odd = load(x.odd + d / 2);
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) {
      const Words words = load_words(row[i] + d, width - d);
      total[i] = multiply_add((Floats)(words << 16), even, total[i]);
      total[i] = multiply_add((Floats)(words & 0xffff0000), odd, total[i]);
    }
  }
  sum_lanes<Count>(total, out);
}

// The rows first, first + step, ...
template <int Count, class Element, class X>
[[gnu::always_inline]] inline void dot_rows_from(const RowList<Element>& rows, int64_t first, int64_t step,
                                                 int64_t width, const X& x, float* out) {
  const Element* row[Count];
  rows.take(first, step, row);
  float sums[Count];
  dot_some(row, width, x, sums);
  for (int i = 0; i < Count; ++i) out[first + i * step] = sums[i];
}

template <class Element, class X>
void dot_rows(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const X& x, float* out) {
  const RowList<Element> list(rows, index, count);
  const int64_t part = count / kStreams;
  for (int64_t i = 0; i < part; ++i) {
    list.template prefetch_after<kStreams>(i, part, width);
    dot_rows_from<kStreams>(list, i, part, width, x, out);
  }
  for (int64_t i = part * kStreams; i < count; ++i) dot_rows_from<1>(list, i, 0, width, x, out);
}

// ---- the same with several x ----

#ifndef BDH_MINIMAL
// x that are multiplied with the same rows at once. On AVX2 there would be registers for the sums of three,
// but not for the halves of x beside them that bfloat16 rows need.
// NOLINTNEXTLINE(misc-definitions-in-headers): one value in each object
constexpr int kXs = kLanes == 16 ? 4 : 2;

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
  const RowList<Element> list(rows, nullptr, count);
  const int64_t part = count / kTogether;
  for (int64_t i = 0; i < part; ++i) {
    const Element* row[kTogether];
    list.take(i, part, row);
    int64_t k = 0;
    for (; k + kXs <= x_count; k += kXs) {
      Floats total[kXs][kTogether] = {};
      dot_block(row, width, x, k, total);
#pragma GCC unroll 4
      for (int j = 0; j < kXs; ++j) {
        float sums[kTogether];
        sum_lanes(total[j], sums);
        for (int r = 0; r < kTogether; ++r) out[(k + j) * out_stride + r * part + i] = sums[r];
      }
    }
    for (; k < x_count; ++k) dot_rows_from<kTogether>(list, i, part, width, x[k], out + k * out_stride);
  }
  for (int64_t i = part * kTogether; i < count; ++i) {
    for (int64_t k = 0; k < x_count; ++k) dot_rows_from<1>(list, i, 0, width, x[k], out + k * out_stride);
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
  constexpr int64_t kAhead = 32;  // pairs
  const RowList<Element> list(rows, nullptr, INT64_MAX);
  int64_t asked = 0;
  for (int64_t j = 0; j < count; j += kTogether) {
    for (; asked < std::min(j + kAhead, count); ++asked) {
      if (asked == 0 || pairs[asked].row != pairs[asked - 1].row)
        prefetch_bytes(list[pairs[asked].row], width * static_cast<int64_t>(sizeof(Element)));
    }
    const Element* row[kTogether];
    std::decay_t<decltype(x[0])> its_x[kTogether];
    for (int64_t i = 0; i < kTogether; ++i) {
      const DotPair pair = pairs[std::min(j + i, count - 1)];
      row[i] = list[pair.row];
      its_x[i] = x[pair.x];
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

// The rows first, first + step, ... pass while a vector of their sums stays in a register.
template <int Count, class Element>
void accumulate_some(const RowList<Element>& rows, const float* scale, int64_t first, int64_t step,
                     int64_t width, float* out) {
  const Element* row[Count];
  Floats weight[Count];
  rows.take(first, step, row);
  for (int i = 0; i < Count; ++i) weight[i] = splat(scale ? scale[first + i * step] : 1.0f);
  for (int64_t d = 0; d < width; d += kLanes) {
    Floats total = load(out + d);
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) total = multiply_add(load(row[i] + d), weight[i], total);
    store(out + d, total);
  }
}

template <class Element>
void accumulate_rows(const Rows& rows, const int32_t* index, const float* scale, int64_t count, int64_t width,
                     float* out) {
  const RowList<Element> list(rows, index, count);
  const int64_t part = count / kStreams;
  for (int64_t i = 0; i < part; ++i) {
    list.template prefetch_after<kStreams>(i, part, width);
    accumulate_some<kStreams>(list, scale, i, part, width, out);
  }
  for (int64_t i = part * kStreams; i < count; ++i) accumulate_some<1>(list, scale, i, 0, width, out);
}

}  // namespace
}  // namespace bdh::cpu
