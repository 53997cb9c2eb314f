// One token's readout of the state S and its update, in one pass: rows are read before they are written, and
// only those whose r is not zero. Device code of the kernels that read single tokens.
#pragma once

#include "kernels/cuda/lanes.h"

namespace bdh::cuda {

/// Rows of S that a warp has at once: as many as its registers hold, so that their reads are in flight
/// together.
template <int Vectors>
constexpr int kStateRows = Vectors < 8 ? 6 : 4;

/// Rows `at` of S where r is not zero: a += r S, then S += r x, each with its scale.
template <int Vectors, int Rows>
__device__ inline void read_and_update_rows(float* s, const int (&at)[Rows], const float (&r)[Rows],
                                            const Scales& scales, int lane, int stride,
                                            const LaneRow<Vectors>& x, LaneRow<Vectors>& a) {
#pragma unroll
  for (int v = 0; v < Vectors; ++v) {
    const int column = v * kSpan + lane * kVector;
    if (column >= stride) continue;
    float row[Rows][kVector];
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
      if (r[i] != 0.0f) load_once(s + int64_t{at[i]} * stride + column, row[i]);
    }
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
      if (r[i] == 0.0f) continue;
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        a.value[v][j] = fmaf(r[i] * scales.readout, row[i][j], a.value[v][j]);
        row[i][j] = fmaf(r[i] * scales.update, x.value[v][j], row[i][j]);
      }
      store_once(s + int64_t{at[i]} * stride + column, row[i]);
    }
  }
}

/// Lane l gives the r of row l of S. Rows where it is not zero are read and updated, in the lanes' order.
template <int Vectors>
__device__ inline void read_and_update(float* s, float own_r, const Scales& scales, int lane, int stride,
                                       const LaneRow<Vectors>& x, LaneRow<Vectors>& a) {
  constexpr int kRows = kStateRows<Vectors>;
  for (unsigned active = __ballot_sync(kAllLanes, own_r != 0.0f); active != 0;) {
    int at[kRows];
    float r[kRows];
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      at[i] = active != 0 ? __ffs(static_cast<int>(active)) - 1 : 0;
      r[i] = __shfl_sync(kAllLanes, own_r, at[i]);
      r[i] = active != 0 ? r[i] : 0.0f;
      active &= active - 1;
    }
    read_and_update_rows(s, at, r, scales, lane, stride, x, a);
  }
}

}  // namespace bdh::cuda
