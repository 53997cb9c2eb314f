// A flush: what pending tokens leave is added to S. Internal linkage: see simd.h.
//
// A row stays in registers while all tokens are added, and another one, some rows on, is asked for meanwhile,
// as S is in no cache. A processor drops what is asked for all at once, where it has no room to remember it
// (Zen 4, 512 rows of 1 KB and 16 tokens, the same products: 89 us, with 16 rows asked for at once 83, one by
// one 45; in the cache 42).
#pragma once

#include <algorithm>

#include "kernels/cpu/generic/simd.h"
#include "kernels/cpu/kernels.h"

namespace bdh::cpu {
namespace {

// Magnitudes compare as their bits do, which is the cheapest comparison.
[[gnu::noinline]] inline void decay(float* values, int64_t count, float factor) {
  const Ints smallest = (Ints)splat(kSmallest), magnitude = Ints{} + INT32_MAX;
#pragma GCC unroll 4
  for (int64_t i = 0; i < count; i += kLanes) {
    const Ints value = (Ints)(load(values + i) * splat(factor));
    store(values + i, (Floats)(value & ((value & magnitude) > smallest)));
  }
}

// r of some neurons side by side, weighed: slots lie far apart, in lines that would drive out one another.
struct Neurons {
  const float* x[kMostPending];
  alignas(64) float r[kMostPending][kLanes];
  uint32_t active[kLanes];  // bit t: whether r of token t is not zero

  // Those from `first` on.
  void take(const PendingTokens& pending, int64_t first, int64_t neurons) {
    Words lanes = {};
    for (int64_t t = 0; t < pending.count; ++t) {
      const Floats some = load_some(pending.r + pending.slots[t] * pending.r_stride + first, neurons - first);
      lanes |= (Words)(some != Floats{}) & (uint32_t{1} << t);
      store(r[t], some * splat(pending.worth[t]));
      x[t] = pending.x + pending.slots[t] * pending.x_stride;
    }
    __builtin_memcpy(active, &lanes, sizeof lanes);
  }
};

constexpr int64_t kColumns = 8 * kLanes;  // NOLINT(misc-definitions-in-headers): one value in each object

// To columns of a neuron's row, from `column` on.
template <int Vectors, class Element>
[[gnu::noinline]] void add_tokens(const Neurons& neurons, int64_t i, int64_t column, Element* row) {
  Floats total[Vectors];
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v) total[v] = load(row + v * kLanes);
  for (uint32_t active = neurons.active[i]; active != 0; active &= active - 1) {
    const int t = __builtin_ctz(active);
    const Floats scale = splat(neurons.r[t][i]);
    const float* x = neurons.x[t] + column;
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) total[v] = multiply_add(scale, load(x + v * kLanes), total[v]);
  }
#pragma GCC unroll 8
  for (int v = 0; v < Vectors; ++v) store(row + v * kLanes, total[v]);
}

// row: the columns from `column` to `end`. There are as many as are padded to, or a multiple.
template <int Vectors, class Element>
[[gnu::noinline]] void add_row(const Neurons& neurons, int64_t i, int64_t column, int64_t end, Element* row) {
  constexpr int kFewest = kPadding / kLanes;
  for (; column + Vectors * kLanes <= end; column += Vectors * kLanes, row += Vectors * kLanes)
    add_tokens<Vectors>(neurons, i, column, row);
  if constexpr (Vectors > kFewest)
    add_row<(Vectors > 2 && kFewest < 2 ? 2 : kFewest)>(neurons, i, column, end, row);
}

// To some columns, rounded once.
inline void decay_and_add(const Neurons& neurons, int64_t i, float left, int64_t column, int64_t end,
                          BFloat16* row) {
  alignas(64) float space[kColumns];
  for (int64_t d = 0; d < end - column; d += kLanes) store(space + d, load(row + d));
  decay(space, end - column, left);
  add_row<kColumns / kLanes>(neurons, i, column, end, space);
  for (int64_t d = 0; d < end - column; d += kLanes) store(row + d, load(space + d));
}

inline void flush_row(const Neurons& neurons, int64_t i, float left, int64_t width, float* row) {
  if (left != 1.0f) decay(row, width, left);
  add_row<kColumns / kLanes>(neurons, i, 0, width, row);
}

inline void flush_row(const Neurons& neurons, int64_t i, float left, int64_t width, BFloat16* row) {
  if (left == 1.0f) return add_row<kColumns / kLanes>(neurons, i, 0, width, row);
  for (int64_t column = 0; column < width; column += kColumns)
    decay_and_add(neurons, i, left, column, std::min(width, column + kColumns), row + column);
}

inline void flush(void* s, DType dtype, int64_t count, int64_t width, const PendingTokens& pending) {
  constexpr int64_t kAhead = 8;  // rows
  const int64_t row_bytes = width * static_cast<int64_t>(size_of(dtype));
  auto* row = static_cast<std::byte*>(s);
  Neurons neurons;
  for (int64_t done = 0; done < count; ++done, row += row_bytes) {
    const int64_t i = done % kLanes;
    if (i == 0) neurons.take(pending, done, count);
    if (done + kAhead < count) prefetch_bytes(row + kAhead * row_bytes, row_bytes);
    if (neurons.active[i] == 0 && pending.left == 1.0f) continue;
    if (dtype == DType::bf16) {
      flush_row(neurons, i, pending.left, width, reinterpret_cast<BFloat16*>(row));
    } else {
      flush_row(neurons, i, pending.left, width, reinterpret_cast<float*>(row));
    }
  }
}

}  // namespace
}  // namespace bdh::cpu
