// What adapters add on the CPU, in the order in which sums are made without them.
#pragma once

#include "kernels/adapter.h"
#include "kernels/cpu/kernels.h"

namespace bdh::cpu {

inline Rows rows_of(const AdapterRows& rows, int64_t first = 0) {
  return {rows.row(first), DType::f32, rows.stride};
}

/// low (rank) = x left of one head, x (D, padded).
inline void reduce(const Kernels& kernels, const LowRank& update, int64_t head, const float* x, float* low) {
  if (update.rank == 0) return;
  kernels.dot_rows(rows_of(update.left, head * update.rank), nullptr, update.rank, update.left.stride, x,
                   low);
}

/// out += low right of one head, for `count` columns, padded, from `column` on, a multiple of kPadding.
inline void expand(const Kernels& kernels, const LowRank& update, int64_t head, const float* low,
                   int64_t column, int64_t count, float* out) {
  if (update.rank == 0) return;
  Rows right = rows_of(update.right, head * update.rank);
  right.data = static_cast<const float*>(right.data) + column;
  kernels.accumulate_rows(right, nullptr, low, update.rank, count, out);
}

}  // namespace bdh::cpu
