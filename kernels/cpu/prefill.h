// Prefill: many tokens of each of several sequences at once, parallel inside, states carried across.
#pragma once

#include <span>
#include <vector>

#include "bdh/base/threads.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/state.h"

namespace bdh::cpu {

/// A segment's place among the rows of a batch, and its state (null: none).
struct SegmentRows {
  SequenceState* state;
  int64_t first;
  int64_t tokens;
  int64_t weights;         // where its weights begin in the scratch memory; -1: no horizon
  const Adapter* adapter;  // or null
};

struct PrefillScratch {
  Buffer<float> x, x_columns, positions, angles, weights, neurons, rotated, attended, partial, worker, low,
      low_partial;
  std::vector<LayerActivity> activity;
  std::vector<SegmentRows> segments;
};

/// Bytes of working memory that reading `rows` rows takes.
size_t prefill_bytes(const Dimensions& dims, int64_t rows, int threads);

/// Reads the tokens of each segment. Returns the last layer's output x (rows, stride), the rows of the
/// segments one after the other, in the scratch memory.
const float* prefill(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool,
                     PrefillScratch& scratch, std::span<const Segment> segments,
                     std::span<LayerActivity> activity);

}  // namespace bdh::cpu
