// Working memory of a pass: how it is laid out, and how many heads fit in it.
#pragma once

#include "kernels/cuda/layout.h"
#include "kernels/cuda/training/pass.h"
#include "kernels/cuda/training/plan.h"

namespace bdh::cuda {

/// What decides how much memory a pass needs.
struct PassSizes {
  Sizes sizes;
  DType precision;
  int sequences, tokens;
  bool backward;  // a gradient is wanted
  bool damped;    // there are horizons
  bool carried;   // there is a carried state
  int vocab_stride;
  int64_t most_bytes;  // of the heads treated together, about
  const TrainingPlan& plan;
};

/// Heads that are treated together.
int heads_at_once(const PassSizes& sizes);
/// Rows of which logits are made together.
int logits_at_once(const PassSizes& sizes);

/// Lays out what a pass works in, and sets its pointers to it, and `kept` to S of a set's sequences.
void lay_out(const PassSizes& sizes, Layout& layout, TrainingPass& pass, float*& kept);

/// What the host sends for each micro-batch: the pass's inputs, targets, weights, order, firsts and
/// occurring.
struct BatchArrays {
  int32_t *inputs, *targets, *order, *firsts, *occurring;
  float* weights;
};
BatchArrays lay_out_batch(const PassSizes& sizes, Layout& layout);

}  // namespace bdh::cuda
