// Brings the S of a damped sequence to the scale of its position.
#pragma once

#include <cstdint>

#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sizes.h"

namespace bdh::cuda {

/// s (L, H*N, stride) *= exp(-lag / horizons[head]), and 0 where little is left (kSmallest). horizons (H): on
/// the device.
void rescale_state(const Sizes& sizes, float* s, const float* horizons, int64_t lag, cudaStream_t stream);

}  // namespace bdh::cuda
