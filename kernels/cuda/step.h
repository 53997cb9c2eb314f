// One token of every sequence, as a graph of 2 L + 2 kernels: what they share, and how the neurons are
// divided among blocks. Knows the order of the kernels; knows nothing of sessions or of how weights were
// loaded.
#pragma once

#include <cstdint>

#include "kernels/cuda/packed.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sizes.h"

namespace bdh::cuda {

/// Neurons of one head that a block treats. The division depends on the model alone, so sums do not depend on
/// the GPU.
constexpr int kBlockNeurons = 128;
constexpr int kStepThreads = 256;
/// The widest D that the fast kernels hold in registers.
constexpr int kWidestStep = 2048;

inline int blocks_per_head(const Sizes& sizes) { return (sizes.neurons + kBlockNeurons - 1) / kBlockNeurons; }

/// Device memory of a step over `count` sequences.
struct StepBuffers {
  int count;
  const Sequence* sequences;  // (B)
  float* x;                   // (B, stride)
  float* n;                   // (B, H*N)
  float* r;                   // (B, H*N), used by the referee alone
  float* attended;            // (B, H, stride): norm(a)
  float* partial;             // (B, H, blocks_per_head, stride)
  float* head_sum;            // (B, H, stride)
  unsigned* arrived;          // (B, H + 1), zero between kernels
  StepCounts* counts;         // (L, B, H, blocks_per_head)
  float* logits;              // (B, V)
};

/// Bytes of those buffers.
size_t step_bytes(const Sizes& sizes, int count);
/// Lays the buffers out in `memory`, which holds step_bytes; `arrived` stands elsewhere and is left null.
StepBuffers step_buffers(const Sizes& sizes, int count, void* memory);

/// Queues embedding, layers and, where wanted, logits.
void queue_step(const PackedParameters& packed, const StepBuffers& buffers, bool logits, cudaStream_t stream);

}  // namespace bdh::cuda
