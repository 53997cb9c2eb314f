// Decode: one token of every sequence, as a graph of 2 L + 2 kernels. What they share, and how the neurons
// are divided among blocks.
#pragma once

#include <cstdint>

#include "kernels/cuda/packed.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sizes.h"

namespace bdh::cuda {

/// Neurons of one head that a block treats. The division depends on the model alone, so sums do not depend on
/// the GPU.
constexpr int kBlockNeurons = 128;
constexpr int kDecodeThreads = 256;
/// The widest D that the fast kernels hold in registers.
constexpr int kWidestDecode = 2048;

inline int blocks_per_head(const Sizes& sizes) { return (sizes.neurons + kBlockNeurons - 1) / kBlockNeurons; }

/// Device memory of a decode of `count` sequences.
struct DecodeBuffers {
  int count, heads;
  bool shared_lists;          // of active neurons: one for a group of sequences
  bool overlap;               // kernels start early (Grid::overlap)
  const Sequence* sequences;  // (B)
  const DrawRequest* draws;   // (B), behind the sequences, and the scales behind them: one copy brings all
  const Scales* scales;       // (B, H), where a sequence is damped
  float* x;                   // (B, stride)
  float* n;                   // (B, H*N)
  float* r;                   // (B, H*N), used by decode_reference alone
  float* attended;            // (B, H, stride): norm(a)
  float* partial;             // (B, H, blocks_per_head, stride)
  float* head_sum;            // (B, H, stride)
  unsigned* arrived;          // (B, H + 1), zero between kernels
  DecodeCounts* counts;       // (B, H, blocks_per_head), of the layer under way
  float* logits;              // (B, V)
  DecodeCounts* totals;       // (L, B), behind the logits, and the tokens behind them: one copy brings all
  int32_t* tokens;            // (B): what was drawn
};

/// Bytes of those buffers.
size_t decode_bytes(const Sizes& sizes, int count);
/// Lays the buffers out in `memory`, which holds decode_bytes; `arrived` stands elsewhere and is left null.
DecodeBuffers decode_buffers(const Sizes& sizes, int count, void* memory);

/// What is wanted beside the states. draws: the next tokens, drawn from the logits on the device.
struct DecodeOutputs {
  bool logits, draws;
};

/// Queues embedding, layers and what is wanted of them.
void queue_decode(const PackedParameters& packed, const DecodeBuffers& buffers, DecodeOutputs outputs,
                  cudaStream_t stream);

}  // namespace bdh::cuda
