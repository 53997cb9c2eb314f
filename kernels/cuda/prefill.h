// Prefill: many tokens of one or several sequences together (a chunk), parallel inside, their states carried
// across. What its kernels share, and their order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/packed.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sizes.h"

namespace bdh::cuda {

/// Tokens of one sequence that are read at once, at most: longer texts are cut.
constexpr int kPrefillTokens = 512;
/// Tokens of all sequences together.
constexpr int kPrefillRows = 4096;
/// Parts that the sum over a head's neurons is divided into, so that few rows still fill the GPU.
constexpr int kSplits = 4;
/// Blocks that the scores are divided into, as far as kMostScoreSplits allow: their tiles alone are few.
constexpr int kScoreBlocks = 132;
constexpr int kMostScoreSplits = 8;

struct PrefillRow {
  int32_t token;
  int64_t position;
  int32_t reads_state;  // 1 when its segment has a state that holds something
  int32_t segment = 0;  // whose row it is
  int32_t damped = 0;   // 1 when its segment has a horizon
};

/// Of one head of a segment with a horizon h, before the weights of its rows. S is kept as Scales has it.
struct SegmentScales {
  float readout;  // exp(-lag / h) at the first row
  float keep;     // what is left of the S that is kept, behind the last row
  float update;   // exp(lag / h) at the first row
};
constexpr int kSegmentScales = 3;

/// The rows of one sequence.
struct PrefillSegment {
  float* s;  // (L, H*N, stride), or null: position 0, and nothing is kept
  int32_t first, count;
  int32_t reads_state;   // 1 when s holds something
  int32_t weights = -1;  // where PrefillBuffers::weights has its (H, kSegmentScales + count + 1) numbers:
                         // SegmentScales, and exp(-i / h) for i from 0 to count; -1: no horizon
};

/// Rows of one segment that one tile of a product covers.
struct RowTile {
  int32_t segment;
  int32_t begin;  // within the segment
};

/// How active a layer was.
struct PrefillCounts {
  unsigned long long n, pairs, v, g;
};

/// What activations are stored as: the weights' dtype, which the tensor cores multiply, bfloat16 where
/// weights are quantized, or float32 where the weights are or where the model is smaller than a tile, which
/// would be padding mostly.
DType activation_dtype(const Sizes& sizes, DType weights);

/// Arrays without a type are in `activations`. columns: N rounded up to whole vectors, the length of a head's
/// part.
struct PrefillBuffers {
  DType activations;
  Mma mma;  // of the products, where activations have 16 bits
  int rows, segments, row_tiles, columns, scores_columns, score_splits;
  bool single_rows;               // every segment is one row and has a state, which holds something or zeros
  const PrefillRow* row;          // (R)
  const PrefillSegment* segment;  // (segments)
  const RowTile* tile;            // (row_tiles)
  const float* weights;           // of damped segments
  bool damped;                    // some segment has a horizon
  float* x;                       // (R, stride)
  void* x_operand;                // (R, stride): x as the products take it
  void* n;                        // (R, H, columns): n, then g
  void* r;                        // (R, H, columns)
  float* score_parts;             // (score_splits, H, R, scores_columns), on and below the diagonal tiles
  void* scores;                   // (H, R, scores_columns): tril(r r^T, -1)
  float* attention;  // (1 + kSplits, H, R, stride): from the chunk's own tokens, then parts of what S gives
  void* attended;    // (H, R, stride): norm(a)
  float* mixed;      // (H * kSplits, R, stride): parts of g decoder
  PrefillCounts* counts;  // (L), or null
};

/// A chunk as the host plans it; laid out on the device as it is here.
struct PrefillPlan {
  std::vector<PrefillRow> rows;
  std::vector<PrefillSegment> segments;
  std::vector<RowTile> tiles;
  std::vector<float> weights;
  int longest = 0;  // rows of a segment

  /// Whether attention_rows can read it.
  bool single_rows(const Sizes& sizes) const;
};

/// Cuts segments into row tiles of that many rows. Fills plan.tiles and plan.longest.
void plan_tiles(PrefillPlan& plan, int rows_of_tile);
/// Rows of a product's tile for activations of that dtype.
int rows_of_tile(DType activations);

/// Parts that sums over N are divided into in scores of segments with at most `longest` rows, `rows`
/// together.
int score_splits(const Sizes& sizes, DType activations, int64_t rows, int64_t longest);

/// Bytes of the buffers for so many rows, whose segments have at most `longest` rows each.
size_t prefill_bytes(const Sizes& sizes, DType dtype, int64_t rows, int64_t longest);
/// Lays the buffers out in `memory`; row, segment, tile and counts stand elsewhere and are left null.
PrefillBuffers prefill_buffers(const Sizes& sizes, DType dtype, int rows, int longest, void* memory);

/// Queues embedding and layers: x is the chunk's output, states are read and added to.
void queue_prefill(const PackedParameters& packed, const PrefillBuffers& buffers, cudaStream_t stream);

}  // namespace bdh::cuda
