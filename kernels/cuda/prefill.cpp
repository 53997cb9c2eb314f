// Prefill's memory, its tiles and the order of its kernels.
#include "kernels/cuda/prefill.h"

#include <algorithm>

#include "kernels/cuda/attention_prefill.h"
#include "kernels/cuda/attention_rows.h"
#include "kernels/cuda/decode.h"
#include "kernels/cuda/embedding.h"
#include "kernels/cuda/encode_prefill.h"
#include "kernels/cuda/gate_prefill.h"
#include "kernels/cuda/layout.h"

namespace bdh::cuda {

namespace {

constexpr int kSmall = 64;  // a tile is 128 wide

PrefillBuffers lay_out(const Sizes& sizes, DType dtype, int64_t rows, int64_t longest, Layout& layout) {
  const int64_t columns = rounded_up(sizes.neurons, kVector), scores_columns = rounded_up(longest, kVector);
  const DType activations = activation_dtype(sizes, dtype);
  const auto elements = [&](int64_t count) {
    return layout.take_bytes(static_cast<size_t>(count) * size_of(activations));
  };
  PrefillBuffers buffers{};
  buffers.activations = activations;
  buffers.rows = static_cast<int>(rows);
  buffers.columns = static_cast<int>(columns);
  buffers.scores_columns = static_cast<int>(scores_columns);
  buffers.x = layout.take<float>(rows * sizes.stride);
  buffers.x_operand = elements(rows * sizes.stride);
  buffers.n = elements(rows * sizes.heads * columns);
  buffers.r = elements(rows * sizes.heads * columns);
  buffers.score_splits = score_splits(sizes, activations, rows, longest);
  buffers.score_parts = layout.take<float>(buffers.score_splits * sizes.heads * rows * scores_columns);
  buffers.scores = elements(sizes.heads * rows * scores_columns);
  buffers.attention = layout.take<float>((1 + kSplits) * sizes.heads * rows * sizes.stride);
  buffers.attended = elements(sizes.heads * rows * sizes.stride);
  buffers.mixed = layout.take<float>(int64_t{sizes.heads} * kSplits * rows * sizes.stride);
  return buffers;
}

}  // namespace

DType activation_dtype(const Sizes& sizes, DType weights) {
  if (sizes.width < kSmall || sizes.neurons < kSmall) return DType::f32;
  return weights == DType::i8 || weights == DType::u8 ? DType::bf16 : weights;
}

bool PrefillPlan::single_rows(const Sizes& sizes) const {
  const auto kept = [](const PrefillSegment& segment) { return segment.count == 1 && segment.s; };
  return sizes.stride <= kWidestDecode && std::all_of(segments.begin(), segments.end(), kept);
}

void plan_tiles(PrefillPlan& plan, int rows_of_tile) {
  plan.tiles.clear();
  plan.longest = 0;
  for (int segment = 0; segment < static_cast<int>(plan.segments.size()); ++segment) {
    const int count = plan.segments[static_cast<size_t>(segment)].count;
    plan.longest = std::max(plan.longest, count);
    for (int begin = 0; begin < count; begin += rows_of_tile) plan.tiles.push_back({segment, begin});
  }
}

int score_splits(const Sizes& sizes, DType activations, int64_t rows, int64_t longest) {
  const int64_t tile = rows_of_tile(activations), tiles = (longest + tile - 1) / tile;
  const int64_t segments = (rows + longest - 1) / longest, causal = tiles * (tiles + 1) / 2;
  return static_cast<int>(
      std::clamp<int64_t>(kScoreBlocks / (segments * causal * sizes.heads), 1, kMostScoreSplits));
}

size_t prefill_bytes(const Sizes& sizes, DType dtype, int64_t rows, int64_t longest) {
  Layout layout(nullptr);
  lay_out(sizes, dtype, rows, longest, layout);
  return layout.bytes();
}

PrefillBuffers prefill_buffers(const Sizes& sizes, DType dtype, int rows, int longest, void* memory) {
  Layout layout(memory);
  return lay_out(sizes, dtype, rows, longest, layout);
}

void queue_prefill(const PackedParameters& packed, const PrefillBuffers& buffers, cudaStream_t stream) {
  const Range prefill("prefill");
  embed_prefill(packed, buffers, stream);
  for (int layer = 0; layer < packed.sizes.layers; ++layer) {
    const Range range("layer");
    encode_prefill(packed, buffers, layer, stream);
    (buffers.single_rows ? attention_rows : attention_prefill)(packed, buffers, layer, stream);
    gate_prefill(packed, buffers, layer, stream);
  }
}

}  // namespace bdh::cuda
