// What the kernels of training are told of a pass over a micro-batch: plain data, passed by value.
//
// A layer treats one group of rows after the other (plan.h), and in it some heads at once, "the heads".
// Activations are token-major, a row's part of a head `columns` long. What products multiply is stored in the
// precision, "operands" here; sums, x, gradients of x, S and what planes hold are float32. Sums that few
// tiles share are made in parts, which a later kernel adds in their order: every number has one owner.
#pragma once

#include <cstdint>

#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sizes.h"
#include "kernels/training_numbers.h"

namespace bdh::cuda {

struct TrainingPass {
  Sizes sizes;
  DType precision;
  Mma mma;       // of the products, where operands have 16 bits
  int columns;   // N rounded up to whole vectors
  bool damped;   // there are horizons: phases are exact
  bool dropped;  // neurons are dropped, as `dropout` says
  DropoutNumbers dropout;

  // the model
  const float* freqs;      // (N), zeros up to a whole vector
  const void* parameters;  // a plane as operands
  float* gradient;         // a plane; null: the loss alone
  int64_t lm_head, embed;  // offsets in planes
  int vocab_stride;        // elements from one row of lm_head to the next

  // the micro-batch
  int sequences, tokens;
  int64_t position;  // of the first token
  float loss_scale;
  int longest;            // tokens of a segment
  const int32_t* inputs;  // (B, T)
  const int32_t* targets;
  const float* weights;      // (H, longest + 1): exp(-distance / horizon); null: no horizon
  const int32_t* order;      // (B T): rows, those of one token together
  const int32_t* firsts;     // (tokens that occur + 1): where theirs begin in `order`
  const int32_t* occurring;  // tokens that occur
  float* x;                  // (L + 1, B T, stride): what each layer reads, and what the last one gives
  float* dx;                 // (B T, stride): gradient of what the layer at hand gives
  float* dx_next;            // (B T, stride): and of what it reads
  float* y_scale;            // (L, B T): what norm(mixed) divided by
  float* z_mean;             // (L, B T): of x + y, and
  float* z_scale;            // (L, B T): what norm(x + y) divided by
  double* losses;            // (B T)

  // the layer
  int layer;
  int64_t encoder, encoder_v, decoder;  // offsets in planes

  // the group and the heads
  int sequence, segments, start, length, rows;
  int first_head, heads;
  bool reads_state;  // something stands before the group
  int keys;          // longest, rounded up to whole vectors
  int score_splits;
  float* s;               // (segments, H N, stride): S of the layer; null: none is kept
  float* state_gradient;  // (segments, H N, stride): dS

  void* x_rows;           // (rows, stride): operands
  void* dmixed;           // (rows, stride): operands, the gradient of g decoder
  void* n;                // (rows, heads, columns): operands; forwards n, then g
  void* r;                // (rows, heads, columns)
  void* v;                // (rows, heads, columns): backwards v, then g
  void* dv;               // (rows, heads, columns): dv, then what S adds to dr
  void* dn;               // (rows, heads, columns)
  float* score_parts;     // (score_splits, heads, rows, keys)
  void* scores;           // (heads, rows, keys): tril(r r^T, -1), weighted
  void* dscores;          // (heads, rows, keys): their gradient, weighted, symmetric
  float* own;             // (heads, rows, stride): a sum over the group's own tokens
  float* parts;           // (heads * kSplits, rows, stride): parts of sums over neurons
  float* mixed;           // (H * kSplits, rows, stride): parts of g decoder
  void* attended;         // (heads, rows, stride): norm(a)
  float* attended_scale;  // (heads, rows): what it divided by
  void* da;               // (heads, rows, stride)
  void* da_set;           // (heads, segments, T, stride): da of the set's groups, weighted by what S is worth
  void* x_weighed;        // (heads, rows, stride): x by what it is worth behind the group
  float* weight_parts;    // parts of sums over rows

  // the loss
  int logit_first, logit_count;  // rows of the micro-batch
  float* logits;                 // (logit_count, vocab_stride)
  void* dlogits;                 // (logit_count, vocab_stride): operands

  constexpr int batch_rows() const { return sequences * tokens; }
  constexpr int64_t x_floats() const { return int64_t{batch_rows()} * sizes.stride; }
  /// Of a row of the group: which one of the micro-batch it is, and where it stands.
  constexpr int token_of(int row) const { return start + row % length; }
  constexpr int64_t batch_row(int row) const {
    return int64_t{sequence + row / length} * tokens + token_of(row);
  }
  /// Rows of x that the layer reads, and that it gives: without a gradient two are kept.
  constexpr float* x_of(int which) const { return x + (gradient ? which : which % 2) * x_floats(); }
  /// exp(-distance / horizon) at [distance]; null without a horizon.
  constexpr const float* weights_of(int head) const {
    return weights ? weights + int64_t{first_head + head} * (longest + 1) : nullptr;
  }
  /// (N, stride) of a segment and head in S or dS.
  constexpr int64_t state_at(int segment, int head) const {
    return (segment * sizes.rows() + int64_t{first_head + head} * sizes.neurons) * sizes.stride;
  }
};

/// Threads for a block that has one row of `width` numbers.
constexpr int row_threads(int width) { return width >= 256 ? 256 : static_cast<int>(rounded_up(width, 32)); }

}  // namespace bdh::cuda
