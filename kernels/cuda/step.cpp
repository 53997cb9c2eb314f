// The step's memory and the order of its kernels.
#include "kernels/cuda/step.h"

#include "kernels/cuda/attention_step.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/gate_step.h"
#include "kernels/cuda/layout.h"
#include "kernels/cuda/step_simple.h"

namespace bdh::cuda {

namespace {

StepBuffers lay_out(const Sizes& sizes, int count, Layout& layout) {
  const int64_t rows = count * sizes.rows(), heads = int64_t{count} * sizes.heads,
                blocks = heads * blocks_per_head(sizes);
  StepBuffers buffers{};
  buffers.count = count;
  buffers.sequences = layout.take<Sequence>(count);
  buffers.draws = layout.take<DrawRequest>(count);
  buffers.x = layout.take<float>(int64_t{count} * sizes.stride);
  buffers.n = layout.take<float>(rows);
  buffers.r = layout.take<float>(rows);
  buffers.attended = layout.take<float>(heads * sizes.stride);
  buffers.partial = layout.take<float>(blocks * sizes.stride);
  buffers.head_sum = layout.take<float>(heads * sizes.stride);
  buffers.counts = layout.take<StepCounts>(blocks);
  buffers.logits = layout.take<float>(int64_t{count} * sizes.vocab);
  buffers.totals = layout.take<StepCounts>(int64_t{sizes.layers} * count);
  buffers.tokens = layout.take<int32_t>(count);
  return buffers;
}

}  // namespace

size_t step_bytes(const Sizes& sizes, int count) {
  Layout layout(nullptr);
  lay_out(sizes, count, layout);
  return layout.bytes();
}

StepBuffers step_buffers(const Sizes& sizes, int count, void* memory) {
  Layout layout(memory);
  return lay_out(sizes, count, layout);
}

void queue_step(const PackedParameters& packed, const StepBuffers& buffers, StepGives gives,
                cudaStream_t stream) {
  const bool overlap = buffers.overlap && packed.sizes.stride <= kWidestStep;
  embed_step(packed, buffers, stream);
  for (int layer = 0; layer < packed.sizes.layers; ++layer) {
    if (packed.sizes.stride > kWidestStep) {
      layer_step_simple(packed, buffers, layer, stream);
      continue;
    }
    attention_step(packed, buffers, layer, stream);
    gate_step(packed, buffers, layer, stream);
  }
  if (gives.logits || gives.draws)
    project_logits(packed, buffers.x, nullptr, buffers.count, buffers.logits, stream, overlap);
  if (gives.draws)
    draw_tokens(buffers.logits, packed.sizes.vocab, buffers.draws, buffers.count, buffers.tokens, stream,
                overlap);
}

}  // namespace bdh::cuda
