// A layer's residual: how its output joins its input.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"

namespace bdh::cpu {

/// x = norm(x + norm(mixed)); mixed is overwritten. Both (stride).
inline void add_and_norm(const Kernels& kernels, const PackedParameters& packed, float* mixed, float* x) {
  kernels.norm(mixed, packed.dims.width, packed.stride, mixed);
  for (int64_t d = 0; d < packed.stride; ++d) x[d] += mixed[d];
  kernels.norm(x, packed.dims.width, packed.stride, x);
}

}  // namespace bdh::cpu
