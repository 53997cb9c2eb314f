// Decode's memory and the order of its kernels.
#include "kernels/cuda/decode.h"

#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/decode_reference.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/gate_decode.h"
#include "kernels/cuda/layout.h"
#include "kernels/cuda/logits.h"

namespace bdh::cuda {

namespace {

DecodeBuffers lay_out(const Sizes& sizes, int count, Layout& layout) {
  const int64_t rows = count * sizes.rows(), heads = int64_t{count} * sizes.heads,
                blocks = heads * blocks_per_head(sizes);
  DecodeBuffers buffers{};
  buffers.count = count;
  buffers.heads = sizes.heads;
  buffers.sequences = layout.take<Sequence>(count);
  buffers.draws = layout.take<DrawRequest>(count);
  buffers.scales = layout.take<Scales>(int64_t{count} * sizes.heads);
  buffers.x = layout.take<float>(int64_t{count} * sizes.stride);
  buffers.n = layout.take<float>(rows);
  buffers.r = layout.take<float>(rows);
  buffers.attended = layout.take<float>(heads * sizes.stride);
  buffers.partial = layout.take<float>(blocks * sizes.stride);
  buffers.head_sum = layout.take<float>(heads * sizes.stride);
  buffers.counts = layout.take<DecodeCounts>(blocks);
  buffers.logits = layout.take<float>(int64_t{count} * sizes.vocab);
  buffers.totals = layout.take<DecodeCounts>(int64_t{sizes.layers} * count);
  buffers.tokens = layout.take<int32_t>(count);
  return buffers;
}

}  // namespace

size_t decode_bytes(const Sizes& sizes, int count) {
  Layout layout(nullptr);
  lay_out(sizes, count, layout);
  return layout.bytes();
}

DecodeBuffers decode_buffers(const Sizes& sizes, int count, void* memory) {
  Layout layout(memory);
  return lay_out(sizes, count, layout);
}

void queue_decode(const PackedParameters& packed, const DecodeBuffers& buffers, DecodeOutputs outputs,
                  cudaStream_t stream) {
  const bool overlap = buffers.overlap && packed.sizes.stride <= kWidestDecode;
  embed_decode(packed, buffers, stream);
  for (int layer = 0; layer < packed.sizes.layers; ++layer) {
    if (packed.sizes.stride > kWidestDecode) {
      decode_layer_reference(packed, buffers, layer, stream);
      continue;
    }
    attention_decode(packed, buffers, layer, stream);
    gate_decode(packed, buffers, layer, stream);
  }
  if (outputs.logits || outputs.draws)
    project_logits(packed, buffers.x, nullptr, buffers.count, buffers.logits, stream, overlap);
  if (outputs.draws)
    draw_tokens(buffers.logits, packed.sizes.vocab, buffers.draws, buffers.count, buffers.tokens, stream,
                overlap);
}

}  // namespace bdh::cuda
