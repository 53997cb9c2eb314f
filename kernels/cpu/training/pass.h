// What the phases of one pass over a micro-batch share: where everything lies, and how work is divided.
//
// Activations are neuron-major, (neurons, columns), a column for each row of the group. A layer treats one
// group after the other, and in it some heads at once; tasks are blocks of neurons of one head, or blocks of
// rows of one segment, so that every sum has one owner and one order.
#pragma once

#include <algorithm>
#include <vector>

#include "bdh/base/threads.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/training/kernels.h"
#include "kernels/cpu/training/plan.h"
#include "kernels/plane_layout.h"
#include "kernels/training_numbers.h"

namespace bdh::cpu {

constexpr int64_t kBlockNeurons = 128;
constexpr int64_t kBlockRows = 64;

/// Heads [first, first + count).
struct Heads {
  int64_t first, count;
};

/// Neurons [begin, begin + count) of a head, their first row in the parameters, and among the heads at hand.
struct NeuronBlock {
  int64_t head, begin, count, row, local;
};

/// Rows [begin, begin + count) of a segment; the segment's first row in the group.
struct SegmentBlock {
  int64_t segment, first, begin, count;
};

/// Rows [begin, begin + count) of a group, whatever their segments.
struct RowBlock {
  int64_t begin, count;
};

/// Working memory, kept from one pass to the next.
struct TrainingScratch {
  Buffer<float> x, dx, y_scale, z_mean, z_scale, x_columns, x_rounded, mixed, mixed_columns;
  Buffer<float> cosines, sines, n, r, dv, dn, scores, score_gradients, attended, attended_columns,
      attended_scale, da, da_columns;
  Buffer<float> state, state_gradient, worker, weights, head_columns, logits;
  std::vector<uint32_t> tokens, sequences;
  std::vector<int64_t> active_n, active_g;  // of each block of neurons: elements that are not zero
  std::vector<double> losses;
};

struct Pass {
  const Kernels& kernels;
  const TrainingKernels& training;
  ThreadPool& pool;
  const PlaneLayout& layout;
  const TrainingOptions& options;
  const Dimensions& dims;
  const MicroBatch& batch;
  TrainingScratch& scratch;
  const float* parameters = nullptr;      // a plane, rounded as options.precision says
  float* gradient = nullptr;              // a plane; null: the loss alone
  float* carried = nullptr;               // (L, B, H * N, stride), or null
  const float* freqs = nullptr;           // (N) turns per token
  const uint64_t* fixed_freqs = nullptr;  // (N) the same, times 2^64
  int64_t position = 0;                   // of the first token
  Plan plan = {};
  int64_t stride = 0;        // padded(D)
  int64_t rows = 0;          // B * T
  int64_t most_columns = 0;  // of a group
  int64_t heads_at_once = 0;
  DropoutNumbers dropout = {};

  // rows of the micro-batch
  float* x = nullptr;   // (L + 1, rows, stride): what each layer reads, and what the last one gives
  float* dx = nullptr;  // (rows, stride): gradient of what the layer at hand gives, then of what it reads
  float* y_scale = nullptr;  // (L, rows): what norm(mixed) divided by
  float* z_mean = nullptr;   // (L, rows): of x + y, and
  float* z_scale = nullptr;  // (L, rows): what norm(x + y) divided by
  // a group's
  float* x_columns = nullptr;      // (stride, columns)
  float* x_rounded = nullptr;      // (rows, stride)
  float* mixed = nullptr;          // (rows, stride): forwards g decoder; backwards its gradient, in x
  float* mixed_columns = nullptr;  // (stride, columns)
  float *cosines = nullptr, *sines = nullptr;  // (N, columns)
  float *n = nullptr, *r = nullptr;            // (heads * N, columns)
  float* dv = nullptr;                         // (heads * N, columns): forwards g
  float* dn = nullptr;                         // (heads * N, columns)
  float* scores = nullptr;                     // (heads, segments, length, length): tril(r r^T, -1), weighted
  float* score_gradients = nullptr;            // the same, of their gradient, symmetric
  float* attended = nullptr;                   // (heads, rows, stride): norm(a)
  float* attended_columns = nullptr;           // (heads, stride, columns)
  float* attended_scale = nullptr;             // (heads, rows)
  float* da = nullptr;                         // (heads, rows of the set, stride)
  float* da_columns = nullptr;                 // (heads, stride, columns)
  float* state = nullptr;           // (H * N, stride): S of the set's sequence, in the chunked form
  float* state_gradient = nullptr;  // (H * N, stride)
  float* worker = nullptr;          // (threads, worker_floats)
  int64_t worker_floats = 0;
  float* weights = nullptr;  // (H, longest + 1): exp(-distance / horizon); null: no horizon

  // --- the group at hand
  RowGroup group = {};
  int64_t columns = 0;  // padded(rows), and a little more where that keeps columns apart in the cache
  const float* group_x = nullptr;  // (rows, stride), rounded
  int64_t layer = 0;
  bool phases_set = false;   // cosines and sines are those of some group
  bool reads_state = false;  // something stands before the group
  float* s = nullptr;        // S of the group's first sequence and the layer (H * N, stride)
  int64_t s_next = 0;        // floats to that of the next sequence

  int64_t all_neurons() const { return dims.heads * dims.neurons; }
  float* x_of(int64_t l) const { return x + (gradient ? l : l % 2) * rows * stride; }
  /// Where the layer's parameters begin; and their gradients.
  const float* encoder() const { return parameters + layout.encoder(layer); }
  const float* encoder_v() const { return parameters + layout.encoder_v(layer); }
  const float* decoder() const { return parameters + layout.decoder(layer); }
  float* encoder_gradient() const { return gradient + layout.encoder(layer); }
  float* encoder_v_gradient() const { return gradient + layout.encoder_v(layer); }
  float* decoder_gradient() const { return gradient + layout.decoder(layer); }
  float* worker_of(int thread) const { return worker + thread * worker_floats; }
  /// exp(-distance / horizon of the head) at [distance]; null without a horizon.
  const float* weights_of(int64_t head) const {
    return weights ? weights + head * (plan.longest + 1) : nullptr;
  }
  void round(float* values, int64_t count) const {
    if (options.precision != DType::f32) training.round(values, count, options.precision, values);
  }

  int64_t blocks_of_head() const { return (dims.neurons + kBlockNeurons - 1) / kBlockNeurons; }
  NeuronBlock neuron_block(const Heads& heads, int64_t i) const {
    const int64_t head = i / blocks_of_head(), begin = i % blocks_of_head() * kBlockNeurons;
    return {heads.first + head, begin, std::min(kBlockNeurons, dims.neurons - begin),
            (heads.first + head) * dims.neurons + begin, head * dims.neurons + begin};
  }
  int64_t blocks_of_segment() const { return (group.length + kBlockRows - 1) / kBlockRows; }
  int64_t segment_blocks() const { return group.segments() * blocks_of_segment(); }
  SegmentBlock segment_block(int64_t i) const {
    const int64_t segment = i / blocks_of_segment(), begin = i % blocks_of_segment() * kBlockRows;
    return {segment, segment * group.length, begin, std::min(kBlockRows, group.length - begin)};
  }
  int64_t row_blocks() const { return (group.rows + kBlockRows - 1) / kBlockRows; }
  RowBlock row_block(int64_t i) const {
    return {i * kBlockRows, std::min(kBlockRows, group.rows - i * kBlockRows)};
  }
};

inline Rows plain(const float* data, int64_t stride) { return {data, DType::f32, stride}; }

inline int64_t neuron_blocks(const Pass& p, const Heads& heads) { return heads.count * p.blocks_of_head(); }

/// One head's rows of an array (heads * N, columns).
inline float* of_head(const Pass& p, float* activations, int64_t head) {
  return activations + head * p.dims.neurons * p.columns;
}

/// Places all buffers and fills what stays the same for the micro-batch.
void begin_pass(Pass& pass);
/// Makes `group` the one at hand, its x that of the layer.
void begin_group(Pass& pass, const RowGroup& group, int64_t layer);
/// to (stride, columns) = from (rows, stride) transposed, in the columns of the block.
void transpose_rows(const Pass& pass, const float* from, const RowBlock& block, float* to);
/// Sets the columns behind the group's rows to 0.
void clear_last_columns(const Pass& pass, float* columns);

}  // namespace bdh::cpu
