// Brings the S of a damped sequence to the scale of its position: one pass over S, once in 60 horizons.
#include "kernels/cuda/rescale.h"

#include <algorithm>

#include "kernels/cuda/damping.h"

namespace bdh::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostHeadBlocks = 64;  // to a head

// Grid: (blocks, heads, layers).
__global__ void rescale(Sizes sizes, float* s, const float* horizons, int64_t lag) {
  const int head = blockIdx.y;
  const auto factor =
      static_cast<float>(exp(-static_cast<double>(lag) / static_cast<double>(horizons[head])));
  float* rows = s + (int64_t{blockIdx.z} * sizes.heads + head) * sizes.neurons * sizes.stride;
  const int64_t vectors = int64_t{sizes.neurons} * sizes.stride / kVector;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < vectors;
       i += int64_t{gridDim.x} * blockDim.x) {
    float row[kVector];
    load_once(rows + i * kVector, row);
#pragma unroll
    for (int j = 0; j < kVector; ++j) row[j] = decayed(row[j], factor);
    store_once(rows + i * kVector, row);
  }
}

}  // namespace

void rescale_state(const Sizes& sizes, float* s, const float* horizons, int64_t lag, cudaStream_t stream) {
  const int64_t vectors = int64_t{sizes.neurons} * sizes.stride / kVector,
                blocks = std::min((vectors + kThreads - 1) / kThreads, kMostHeadBlocks);
  launch(stream,
         {dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(sizes.heads),
               static_cast<unsigned>(sizes.layers)),
          dim3(kThreads)},
         rescale, sizes, s, horizons, lag);
}

}  // namespace bdh::cuda
