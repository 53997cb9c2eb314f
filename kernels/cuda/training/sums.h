// Products that several families share, and the sums of their parts.
#pragma once

#include "kernels/cuda/training/pass.h"

namespace bdh::cuda {

/// Rows of operands (rows, stride) for each head: `next` elements from one head's to the next; 0: one for
/// all.
struct HeadRows {
  const void* rows;
  int64_t next;
};

/// The gradient of a parameter (H N, stride), from `offset` in the plane: += activations^T rows, for the
/// heads; activations (rows, heads, columns).
void add_neuron_gradient(const TrainingPass& pass, const void* activations, HeadRows rows, int64_t offset,
                         cudaStream_t stream);
/// The gradient of lm_head (D, V): += x_rows^T dlogits.
void add_head_gradient(const TrainingPass& pass, cudaStream_t stream);
/// Floats of TrainingPass::weight_parts that they need.
int64_t weight_part_floats(const Sizes& sizes, DType precision, int heads, int most_rows, int vocab_stride);

/// parts (heads * kSplits, rows, stride), TrainingPass::parts or a place in TrainingPass::mixed, =
/// activations (rows, heads, columns) times rows (H N, stride) of the parameter at `offset`.
void multiply_neurons(const TrainingPass& pass, const void* activations, int64_t offset, float* parts,
                      cudaStream_t stream);
/// TrainingPass::parts = r times each segment's state (segments, H N, stride).
void multiply_state(const TrainingPass& pass, const float* state, cudaStream_t stream);

/// What dx_next is added.
struct DxParts {
  bool own = false;       // TrainingPass::own
  bool parts = false;     // TrainingPass::parts
  bool weighted = false;  // by what a row is worth behind the group
};
void add_to_dx(const TrainingPass& pass, DxParts what, cudaStream_t stream);

}  // namespace bdh::cuda
