// Reading chunks: many tokens of each of several sequences at once, parallel inside a chunk, states carried
// across.
#pragma once

#include <span>
#include <vector>

#include "bdh/base/threads.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/state.h"

namespace bdh::cpu {

struct ChunkScratch {
  Buffer<float> x, x_columns, positions, neurons, rotated, attended, partial, worker;
  std::vector<LayerActivity> activity;
};

/// A segment's place among the rows of a batch, and its state (null: none).
struct ChunkSegment {
  SequenceState* state;
  int64_t first;  // row
  int64_t tokens;
};

struct ChunkBatch {
  std::span<const ChunkSegment> segments;
  int64_t rows;  // of all segments together
  float* x;      // (rows, stride): the embedded tokens, and at the end the last layer's output
};

/// Bytes of working memory that reading `rows` rows takes.
size_t chunk_bytes(const Dimensions& dims, int64_t rows, int threads);

void read_chunks(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool,
                 ChunkScratch& scratch, const ChunkBatch& batch, std::span<LayerActivity> activity);

}  // namespace bdh::cpu
