// What adapters add on the CPU, in the order in which sums are made without them.
#pragma once

#include <algorithm>

#include "kernels/adapter.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"

namespace bdh::cpu {

inline Rows rows_of(const AdapterRows& rows, int64_t first = 0) {
  return {rows.row(first), DType::f32, rows.stride};
}

/// What an adapter, which may be null, adds to a layer's matrix; null for nothing.
inline const LowRank* update_of(const Adapter* adapter, int64_t layer, LowRank LayerAdapter::*matrix) {
  if (!adapter) return nullptr;
  const LowRank& update = adapter->layer(layer).*matrix;
  return update.rank > 0 ? &update : nullptr;
}

/// The largest rank, padded, of the adapters of tokens or segments; 0 where there are none.
template <class List>
int64_t padded_rank(const List& adapted) {
  int64_t most = 0;
  for (const auto& one : adapted) most = std::max(most, one.adapter ? padded(one.adapter->most_rank()) : 0);
  return most;
}

/// low (rank) = x left of one head, x (D, padded).
inline void reduce(const Kernels& kernels, const LowRank& update, int64_t head, const float* x, float* low) {
  kernels.dot_rows(rows_of(update.left, head * update.rank), nullptr, update.rank, update.left.stride, x,
                   low);
}

/// out += low right of one head, for `count` columns, padded, from `column` on, a multiple of kPadding.
inline void expand(const Kernels& kernels, const LowRank& update, int64_t head, const float* low,
                   int64_t column, int64_t count, float* out) {
  Rows right = rows_of(update.right, head * update.rank);
  right.data = static_cast<const float*>(right.data) + column;
  kernels.accumulate_rows(right, nullptr, low, update.rank, count, out);
}

}  // namespace bdh::cpu
