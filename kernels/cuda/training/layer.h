// One layer in training: forwards, and backwards with everything but x computed again.
#pragma once

#include "kernels/cuda/training/pass.h"
#include "kernels/cuda/training/plan.h"
#include "kernels/plane_layout.h"

namespace bdh::cuda {

/// A pass as the host drives it. pass: what all kernels of it are told, the group left open.
struct LayerRun {
  TrainingPass pass;
  const TrainingPlan& plan;
  const PlaneLayout& layout;
  int heads_at_once;
  float* carried;  // (L, B, H N, stride), or null
  float* kept;     // (segments, H N, stride): S of a set's sequences, in the chunked form
  cudaStream_t stream;
};

/// x of the next layer, for all rows of the micro-batch.
void layer_forward(LayerRun& run, int layer);
/// dx of what the layer read, in the place of dx of what it gave; the gradients of its parameters are added
/// to.
void layer_backward(LayerRun& run, int layer);

}  // namespace bdh::cuda
