// What a horizon does to S, scores and sums: device code.
#pragma once

#include "kernels/cuda/decode.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/prefill.h"
#include "kernels/horizon.h"

namespace bdh::cuda {

/// value * factor, 0 below kSmallest. A factor of 1 changes nothing.
__device__ inline float decayed(float value, float factor) {
  const float left = value * factor;
  return factor == 1.0f || fabsf(left) > kSmallest ? left : 0.0f;
}

/// The scales of one head of a sequence.
__device__ inline Scales scales_of(const DecodeBuffers& buffers, const Sequence& sequence, int which,
                                   int head) {
  return sequence.damped ? buffers.scales[which * buffers.heads + head] : Scales();
}

/// The weights of a head's rows, by distance; null without a horizon.
__device__ inline const float* weights_of(const PrefillBuffers& buffers, const PrefillSegment& segment,
                                          int head) {
  if (segment.weights < 0) return nullptr;
  return buffers.weights + segment.weights + int64_t{head} * (kSegmentScales + segment.count + 1) +
         kSegmentScales;
}
__device__ inline SegmentScales scales_at(const float* weights) {
  return {weights[-3], weights[-2], weights[-1]};
}

}  // namespace bdh::cuda
