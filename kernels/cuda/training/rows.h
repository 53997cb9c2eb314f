// A row and its norm, by a block that has the row in shared memory. Device code.
#pragma once

#include "kernels/cuda/device.h"

namespace bdh::cuda {

/// The gradient of norm, in place: dy(d) at first, y_at(d) the norm's output, scale what it multiplied with.
/// As block_norm.
template <class Output>
__device__ inline void block_norm_gradient(float* row, Output&& y_at, float scale, int width,
                                           float* scratch) {
  float sum = 0, products = 0;
  for (int d = threadIdx.x; d < width; d += blockDim.x) {
    sum += row[d];
    products = fmaf(row[d], y_at(d), products);
  }
  const float mean = block_sum(sum, scratch) / static_cast<float>(width);
  const float along = block_sum(products, scratch) / static_cast<float>(width);
  for (int d = threadIdx.x; d < width; d += blockDim.x) row[d] = (row[d] - mean - y_at(d) * along) * scale;
  __syncthreads();
}

}  // namespace bdh::cuda
