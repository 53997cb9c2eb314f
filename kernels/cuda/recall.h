// One token's exchange with the state S: what is read before it is written, and only where r is not zero.
// Device code of the kernels that read single tokens.
#pragma once

#include "kernels/cuda/lanes.h"

namespace bdh::cuda {

/// Four rows of S where r is not zero: a += r S, then S += r x.
template <int Vectors>
__device__ inline void recall_and_add(float* rows, const float (&r)[4], int lane, int stride,
                                      const LaneRow<Vectors>& x, LaneRow<Vectors>& a) {
#pragma unroll
  for (int v = 0; v < Vectors; ++v) {
    const int column = v * kSpan + lane * kVector;
    if (column >= stride) continue;
    float s[4][kVector];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (r[i] != 0.0f) load_once(rows + int64_t{i} * stride + column, s[i]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (r[i] == 0.0f) continue;
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        a.value[v][j] = fmaf(r[i], s[i][j], a.value[v][j]);
        s[i][j] = fmaf(r[i], x.value[v][j], s[i][j]);
      }
      store_once(rows + int64_t{i} * stride + column, s[i]);
    }
  }
}

}  // namespace bdh::cuda
