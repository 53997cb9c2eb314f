// Prefill, layer by layer in four phases. Activations are neuron-major, (neurons, rows): then every product
// finds its operands in the order it wants them, and one pair's rotation is the same for a whole vector of
// tokens.
//   encode   by group of neurons           n, r; readout from S; S += r^T x
//   attend   by head and block of rows     a = readout + tril(r r^T, -1) x; norm
//   gate     by group of neurons           v; g; partial sums of g decoder
//   mix      by block of rows              x = norm(x + norm(sum of the groups' parts))
#include "kernels/cpu/prefill.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/adapters.h"
#include "kernels/cpu/embedding.h"
#include "kernels/cpu/residual.h"
#include "kernels/horizon.h"

namespace bdh::cpu {

namespace {

constexpr int64_t kNeuronBlock = 128;  // neurons in flight: their rows and activations share the second cache
constexpr int64_t kRowBlock = 64;      // rows of scores made at once
constexpr int64_t kGroups = 32;        // partial sums kept, about

// Neurons of one head that one task treats and sums. The division depends on the model alone.
struct Groups {
  NeuronTiles tiles;
  int64_t per_head;
  int64_t count;

  explicit Groups(const Dimensions& dims)
      : tiles(dims),
        per_head(std::min(tiles.per_head, (kGroups + dims.heads - 1) / dims.heads)),
        count(dims.heads * per_head) {}
  int64_t head(int64_t group) const { return group / per_head; }
  int64_t first_tile(int64_t group) const {
    return head(group) * tiles.per_head + group % per_head * tiles.per_head / per_head;
  }
  int64_t end_tile(int64_t group) const {
    return head(group) * tiles.per_head + (group % per_head + 1) * tiles.per_head / per_head;
  }
};

// Floats of each array below.
struct Sizes {
  int64_t x, x_columns, positions, neurons, attended, partial, worker;  // neurons: of n, and again of r

  Sizes(const Dimensions& dims, int64_t rows)
      : Sizes(Groups(dims).count, dims.heads, dims.heads * dims.neurons, padded(dims.width), rows) {}

 private:
  Sizes(int64_t groups, int64_t heads, int64_t all_neurons, int64_t stride, int64_t rows)
      : x(rows * stride),
        x_columns(stride * padded(rows)),
        positions(padded(rows)),
        neurons(all_neurons * padded(rows)),
        attended(heads * x_columns),
        partial(groups * x),
        worker(padded(2 * kNeuronBlock * stride + std::max(kNeuronBlock, kRowBlock) * padded(rows))) {}
};

struct Prefill {
  const Kernels& kernels;
  const PackedParameters& packed;
  std::span<const SegmentRows> segments;
  int64_t rows;  // of all segments together
  float* x;      // (rows, stride)
  Groups groups;
  int64_t stride;    // padded(D)
  int64_t columns;   // padded(rows)
  float* x_columns;  // (stride, columns): x transposed
  float* positions;  // (columns)
  float* neurons;    // (H*N, columns): n
  float* rotated;    // (H*N, columns): r
  float* attended;   // (H, stride, columns): norm(a) transposed
  float* partial;    // (groups, rows, stride)
  float* worker;     // (threads, worker_floats)
  int64_t worker_floats;
  LayerActivity* activity;  // (groups)
  float* angles;            // (N, columns), where some segment's phases are not those of `positions`
  float* weights;           // for each segment that has one: (H, tokens + 1), exp(-(tokens - i) / horizon)
  int64_t rank;             // padded: the largest of the adapters'; 0 where there are none
  float* low;               // (H, rank, columns): what adapters make of x, or norm(a), transposed
  float* low_partial;       // (groups, rows, rank): and of g, the group's part

  float* partial_of(int64_t group) const { return partial + group * rows * stride; }
  float* scratch_of(int thread) const { return worker + thread * worker_floats; }
  // What a token is worth `distance` tokens later, as weights[-distance]; null without a horizon.
  const float* weights_of(const SegmentRows& segment, int64_t head) const {
    if (segment.weights < 0) return nullptr;
    return weights + segment.weights + head * (segment.tokens + 1) + segment.tokens;
  }
};

// A block of neuron-major rows as float32: converted into `buffer` unless they are already.
const float* widened(const Prefill& c, const Rows& rows, int64_t row, int64_t count, float* buffer) {
  const Rows block = from_row(rows, row);
  if (rows.dtype == DType::f32) return static_cast<const float*>(block.data);
  if (c.packed.is_quantized()) {
    c.kernels.widen_quantized(block, count, c.stride, buffer);
  } else {
    c.kernels.widen(block.data, rows.dtype, count * rows.stride, buffer);
  }
  return buffer;
}

Rows plain(const float* data, int64_t stride) { return {data, DType::f32, stride}; }

// A product whose A has that share of elements that are not zero.
void multiply_or_skip(const Prefill& c, const Product& p, double active) {
  if (active > kSparseShare) return c.kernels.multiply(p);
  for (int64_t i = 0; i < p.m && !p.add; ++i) std::fill(p.c + i * p.c_row, p.c + i * p.c_row + p.n, 0.0f);
  c.kernels.add_sparse(p);
}

// Neurons of one head that are treated together.
struct NeuronBlock {
  int64_t layer, head, tile, row, count;
  bool first;  // of its group: partial sums begin
};

int64_t first_neuron(const Prefill& c, const NeuronBlock& block) {  // within its tile
  return block.row - c.groups.tiles[block.tile].row;
}

// r (count, tokens) times what each token is worth at the end of the segment.
Rows weighted(const Prefill& c, const SegmentRows& segment, const float* weights, const float* r,
              int64_t count, float* buffer) {
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t t = 0; t < segment.tokens; ++t)
      buffer[i * segment.tokens + t] = r[i * c.columns + t] * weights[t - segment.tokens];
  }
  return plain(buffer, segment.tokens);
}

// The same in token form: scores against columns, in the first floats of a's rows; the tokens become columns.
void read_and_keep_columns(const Prefill& c, const SegmentRows& segment, const NeuronBlock& block,
                           double active, float* a) {
  const SequenceState& state = *segment.state;
  const float* r = c.rotated + block.row * c.columns + segment.first;
  const int64_t width = state.column_block(), tokens = state.position() - state.begin();
  const int64_t neuron = first_neuron(c, block);
  for (int64_t begin = 0; begin < tokens; begin += width) {
    multiply_or_skip(c,
                     {segment.tokens, padded(std::min(width, tokens - begin)), block.count, r, 1, c.columns,
                      state.columns(block.layer, begin / width, block.tile, neuron),
                      a + segment.first * c.stride + begin, c.stride, !block.first},
                     active);
  }
  state.keep_columns(block.layer, block.tile, neuron, block.count, segment.tokens, r, c.columns);
}

// One segment: readout from what S holds, then S takes the segment's tokens. active: the share of r that is
// not zero. space: for the block's rows of S, and for a number for each neuron and token.
void read_and_update(const Prefill& c, const SegmentRows& segment, const NeuronBlock& block, double active,
                     float* a, float* space) {
  if (segment.state->keeps_columns(segment.tokens))
    return read_and_keep_columns(c, segment, block, active, a);
  const int64_t count = block.count, neuron = first_neuron(c, block);
  float* s = segment.state->open_s(block.layer, block.tile, neuron, count, space);
  float* buffer = space + kNeuronBlock * c.stride;
  const float* r = c.rotated + block.row * c.columns + segment.first;
  const bool has_past = !segment.state->is_new();
  if (has_past) {
    multiply_or_skip(c,
                     {segment.tokens, c.stride, count, r, 1, c.columns, plain(s, c.stride),
                      a + segment.first * c.stride, c.stride, !block.first},
                     active);
  }
  Rows keys = plain(r, c.columns);
  if (const float* weights = c.weights_of(segment, block.head)) {
    if (has_past) c.kernels.decay(s, count * c.stride, weights[-segment.tokens]);
    keys = weighted(c, segment, weights, r, count, buffer);
  }
  multiply_or_skip(c,
                   {count, c.stride, segment.tokens, static_cast<const float*>(keys.data), keys.stride, 1,
                    plain(c.x + segment.first * c.stride, c.stride), s, c.stride, has_past},
                   active);
  segment.state->keep_s(block.layer, block.tile, neuron, count, s);
}

// Whether the kernels can't make the segment's angles of its positions.
bool angles_given(const PackedParameters& packed, const SegmentRows& segment) {
  const int64_t start = segment.state ? segment.state->position() : 0;
  return segment.weights >= 0 || start + segment.tokens > packed.rotated_positions;
}

double share_of(const Prefill& c, const NeuronBlock& block, int64_t active) {
  return static_cast<double>(active) / static_cast<double>(block.count * c.rows);
}

// What adapters make of the rows of one head, columns of `x` (stride, columns).
void reduce(const Prefill& c, int64_t layer, LowRank LayerAdapter::*matrix, int64_t head, const float* x) {
  for (const SegmentRows& segment : c.segments) {
    const LowRank* update = update_of(segment.adapter, layer, matrix);
    if (!update) continue;
    c.kernels.multiply({update->rank, segment.tokens, c.stride, update->left.row(head * update->rank),
                        c.stride, 1, plain(x + segment.first, c.columns),
                        c.low + head * c.rank * c.columns + segment.first, c.columns, false});
  }
}

// A block's product begins with what adapters add. neuron: the block's first within its head. Returns
// whether there is anything to be added to.
bool begin_with_adapters(const Prefill& c, const NeuronBlock& block, LowRank LayerAdapter::*matrix,
                         int64_t neuron, float* out) {
  if (c.rank == 0) return false;
  std::fill(out, out + block.count * c.columns, 0.0f);
  for (const SegmentRows& segment : c.segments) {
    const LowRank* update = update_of(segment.adapter, block.layer, matrix);
    if (!update) continue;
    const float* right = update->right.row(block.head * update->rank) + neuron;
    const float* low = c.low + block.head * c.rank * c.columns + segment.first;
    c.kernels.multiply({block.count, segment.tokens, update->rank, right, 1, update->right.stride,
                        plain(low, c.columns), out + segment.first, c.columns, false});
  }
  return true;
}

// neuron: the block's first within its head.
void encode_block(const Prefill& c, const NeuronBlock& block, int64_t neuron, float* a, float* buffer,
                  LayerActivity& activity) {
  const float* encoder = widened(c, c.packed.layer(block.layer).encoder, block.row, block.count, buffer);
  float* n = c.neurons + block.row * c.columns;
  const bool add = begin_with_adapters(c, block, &LayerAdapter::encoder, neuron, n);
  const Encoded active = c.kernels.encode(
      {block.count, c.columns, c.stride, encoder, c.stride, 1, plain(c.x_columns, c.columns), n, c.columns,
       add},
      {c.packed.freqs.data() + neuron, c.positions, c.angles ? c.angles + neuron * c.columns : nullptr},
      c.rotated + block.row * c.columns);
  activity.n += active.n;
  activity.pairs += active.pairs;
  float* spare = buffer + kNeuronBlock * c.stride;
  for (const SegmentRows& segment : c.segments) {
    if (segment.state) read_and_update(c, segment, block, share_of(c, block, 2 * active.pairs), a, spare);
  }
}

// Calls use(block, its first neuron within the head) for the blocks of a group, in order.
template <class Use>
void for_blocks(const Prefill& c, int64_t layer, int64_t group, const Use& use) {
  bool first = true;
  for (int64_t i = c.groups.first_tile(group); i < c.groups.end_tile(group); ++i) {
    const NeuronTile tile = c.groups.tiles[i];
    for (int64_t begin = 0; begin < tile.count; begin += kNeuronBlock, first = false) {
      const int64_t count = std::min(kNeuronBlock, tile.count - begin);
      use(NeuronBlock{layer, tile.head, i, tile.row + begin, count, first}, tile.begin + begin);
    }
  }
}

void encode(const Prefill& c, int64_t layer, int64_t group, int thread) {
  for (int64_t tile = c.groups.first_tile(group); tile < c.groups.end_tile(group); ++tile) {
    for (const SegmentRows& segment : c.segments) {
      if (segment.state) segment.state->flush_before(layer, tile, segment.tokens);
    }
  }
  for_blocks(c, layer, group, [&](const NeuronBlock& block, int64_t neuron) {
    encode_block(c, block, neuron, c.partial_of(group), c.scratch_of(thread), c.activity[group]);
  });
}

// Rows of one segment whose attention one task computes.
struct RowBlock {
  const SegmentRows* segment;
  int64_t begin;  // within the segment
  int64_t count;
};

std::vector<RowBlock> row_blocks(std::span<const SegmentRows> segments) {
  std::vector<RowBlock> blocks;
  for (const SegmentRows& segment : segments) {
    for (int64_t begin = 0; begin < segment.tokens; begin += kRowBlock) {
      blocks.push_back({&segment, begin, std::min(kRowBlock, segment.tokens - begin)});
    }
  }
  // The longest first: what is left at the end is short.
  std::stable_sort(blocks.begin(), blocks.end(),
                   [](const RowBlock& a, const RowBlock& b) { return a.begin > b.begin; });
  return blocks;
}

// Sum of the groups' parts for a row, in the order of the groups.
void sum_parts(const Prefill& c, int64_t first_group, int64_t groups, int64_t row, float* out) {
  std::fill(out, out + c.stride, 0.0f);
  const Rows parts = plain(c.partial_of(first_group) + row * c.stride, c.rows * c.stride);
  c.kernels.accumulate_rows(parts, nullptr, nullptr, groups, c.stride, out);
}

// The first key that some row of a block still sees.
int64_t first_key(const SegmentRows& segment, const RowBlock& block, int64_t head) {
  if (segment.weights < 0) return 0;
  const int64_t reach = reach_of(segment.state->horizons()[head]);
  return std::max<int64_t>(0, block.begin - reach);
}

// scores (count, keys) = tril(r r^T, -1), weighted, for the rows of a block against the rows [from, from +
// keys) of its segment.
void score(const Prefill& c, const RowBlock& block, int64_t head, int64_t from, int64_t keys, float* scores) {
  const SegmentRows& segment = *block.segment;
  const float* r = c.rotated + head * c.packed.dims.neurons * c.columns + segment.first;
  c.kernels.multiply({block.count, keys, c.packed.dims.neurons, r + block.begin, 1, c.columns,
                      plain(r + from, c.columns), scores, keys, false, block.begin - from});
  const float* weights = c.weights_of(segment, head);
  for (int64_t i = 0; i < block.count; ++i) {
    float* row = scores + i * keys;
    const int64_t before = block.begin + i - from;  // keys that the row may see
    for (int64_t j = 0; weights && j < before; ++j) row[j] *= weights[j - before];
    std::fill(row + before, row + keys, 0.0f);
  }
}

// a = what the tokens before the segment left, for the rows of a block. space (kRowBlock, stride).
void read_past(const Prefill& c, const RowBlock& block, int64_t layer, int64_t head, float* a, float* space) {
  const SegmentRows& segment = *block.segment;
  const SequenceState& state = *segment.state;
  const bool in_columns = state.keeps_columns(segment.tokens);
  const float* weights = c.weights_of(segment, head);
  for (int64_t i = 0; i < block.count; ++i) {
    float* row = (in_columns ? space : a) + i * c.stride;
    sum_parts(c, head * c.groups.per_head, c.groups.per_head, segment.first + block.begin + i, row);
    if (weights && !in_columns) c.kernels.decay(row, c.stride, weights[-(block.begin + i)]);
  }
  if (!in_columns) return;
  const int64_t tokens = state.position() - state.begin(), tile = head * c.groups.tiles.per_head;
  for (int64_t i = 0; i < block.count && weights; ++i) {
    for (int64_t s = 0; s < tokens; ++s)
      space[i * c.stride + s] *= state.weight(tile, tokens - s + block.begin + i);
  }
  c.kernels.multiply({block.count, c.stride, tokens, space, c.stride, 1,
                      plain(state.x_of_tokens(layer), c.stride), a, c.stride, false});
}

void attend(const Prefill& c, const RowBlock& block, int64_t layer, int64_t head, int thread) {
  const SegmentRows& segment = *block.segment;
  const int64_t first = segment.first + block.begin, from = first_key(segment, block, head),
                keys = block.begin + block.count - from;
  float* a = c.scratch_of(thread);
  float* scores = a + 2 * kRowBlock * c.stride;
  if (segment.state && !segment.state->is_new()) {
    read_past(c, block, layer, head, a, a + kRowBlock * c.stride);
  } else {
    std::fill(a, a + block.count * c.stride, 0.0f);
  }
  score(c, block, head, from, keys, scores);
  c.kernels.multiply({block.count, c.stride, keys, scores, keys, 1,
                      plain(c.x + (segment.first + from) * c.stride, c.stride), a, c.stride, true});
  float* out = c.attended + head * c.stride * c.columns + first;
  for (int64_t i = 0; i < block.count; ++i)
    c.kernels.norm(a + i * c.stride, c.packed.dims.width, c.stride, a + i * c.stride);
  for (int64_t d = 0; d < c.stride; ++d) {
    for (int64_t i = 0; i < block.count; ++i) out[d * c.columns + i] = a[i * c.stride + d];
  }
}

// What adapters make of g, for the decoder's part of them.
void reduce_gated(const Prefill& c, const NeuronBlock& block, const float* g, float* low) {
  for (const SegmentRows& segment : c.segments) {
    const LowRank* update = update_of(segment.adapter, block.layer, &LayerAdapter::decoder);
    if (!update) continue;
    const AdapterRows& left = update->left;
    c.kernels.multiply({segment.tokens, left.stride, block.count, g + segment.first, 1, c.columns,
                        plain(left.row(block.row), left.stride), low + segment.first * c.rank, c.rank,
                        !block.first});
  }
}

void gate_block(const Prefill& c, const NeuronBlock& block, int64_t neuron, float* mixed, float* low,
                float* buffer, LayerActivity& activity) {
  const PackedLayer& layer = c.packed.layer(block.layer);
  float* g = buffer + kNeuronBlock * c.stride;
  const float* encoder_v = widened(c, layer.encoder_v, block.row, block.count, buffer);
  const bool add = begin_with_adapters(c, block, &LayerAdapter::encoder_v, neuron, g);
  const Gated active =
      c.kernels.gate({block.count, c.columns, c.stride, encoder_v, c.stride, 1,
                      plain(c.attended + block.head * c.stride * c.columns, c.columns), g, c.columns, add},
                     c.neurons + block.row * c.columns, c.columns);
  activity.v += active.v;
  activity.g += active.g;
  const float* decoder = widened(c, layer.decoder, block.row, block.count, buffer);
  multiply_or_skip(c,
                   {c.rows, c.stride, block.count, g, 1, c.columns, plain(decoder, c.stride), mixed, c.stride,
                    !block.first},
                   share_of(c, block, active.g));
  reduce_gated(c, block, g, low);
}

void gate(const Prefill& c, int64_t layer, int64_t group, int thread) {
  float* low = c.low_partial + group * c.rows * c.rank;
  for_blocks(c, layer, group, [&](const NeuronBlock& block, int64_t neuron) {
    gate_block(c, block, neuron, c.partial_of(group), low, c.scratch_of(thread), c.activity[group]);
  });
}

void transpose_row(const Prefill& c, int64_t row) {
  const float* x = c.x + row * c.stride;
  for (int64_t d = 0; d < c.stride; ++d) c.x_columns[d * c.columns + row] = x[d];
}

const SegmentRows& segment_of(const Prefill& c, int64_t row) {
  const auto after =
      std::upper_bound(c.segments.begin(), c.segments.end(), row,
                       [](int64_t at, const SegmentRows& segment) { return at < segment.first; });
  return *std::prev(after);
}

// What an adapter adds to a row of g decoder.
void adapt_mixed(const Prefill& c, int64_t layer, int64_t row, float* mixed) {
  const LowRank* update = update_of(segment_of(c, row).adapter, layer, &LayerAdapter::decoder);
  if (!update) return;
  float* low = c.low_partial + row * c.rank;
  const Rows others = plain(low + c.rows * c.rank, c.rows * c.rank);
  c.kernels.accumulate_rows(others, nullptr, nullptr, c.groups.count - 1, update->left.stride, low);
  expand(c.kernels, *update, 0, low, 0, c.stride, mixed);
}

void mix(const Prefill& c, int64_t layer, int64_t row, int thread) {
  float* mixed = c.scratch_of(thread);
  sum_parts(c, 0, c.groups.count, row, mixed);
  if (c.rank > 0) adapt_mixed(c, layer, row, mixed);
  add_and_norm(c.kernels, c.packed, mixed, c.x + row * c.stride);
  transpose_row(c, row);
}

int64_t place_segments(std::span<const Segment> segments, std::vector<SegmentRows>& placed) {
  placed.clear();
  int64_t rows = 0, weights = 0;
  for (const Segment& segment : segments) {
    const auto tokens = static_cast<int64_t>(segment.tokens.size());
    auto* state = static_cast<SequenceState*>(segment.state);
    const bool damped = state && !state->horizons().empty();
    placed.push_back({state, rows, tokens, damped ? weights : -1, segment.adapter});
    if (damped) weights += static_cast<int64_t>(state->horizons().size()) * (tokens + 1);
    rows += tokens;
  }
  return rows;
}

void embed(const Prefill& c, std::span<const Segment> segments) {
  int64_t row = 0;
  for (const Segment& segment : segments) {
    for (const int32_t token : segment.tokens) {
      embed_token(c.kernels, c.packed, token, segment.adapter, c.x + row * c.stride);
      transpose_row(c, row++);
    }
  }
}

void set_positions(const Prefill& c) {
  for (const SegmentRows& segment : c.segments) {
    const int64_t start = segment.state ? segment.state->position() : 0;
    for (int64_t t = 0; t < segment.tokens; ++t)
      c.positions[segment.first + t] = static_cast<float>(start + t);
  }
  std::fill(c.positions + c.rows, c.positions + c.columns, 0.0f);
}

void set_weights(const Prefill& c) {
  for (const SegmentRows& segment : c.segments) {
    if (segment.weights < 0) continue;
    float* weights = c.weights + segment.weights;
    for (const float horizon : segment.state->horizons()) {
      for (int64_t distance = segment.tokens; distance >= 0; --distance)
        *weights++ = weight_after(distance, horizon);
    }
  }
}

// The same for every layer and head.
void set_angles(const Prefill& c, ThreadPool& pool) {
  pool.run(c.packed.dims.neurons, [&](int64_t i, int) {
    float* row = c.angles + i * c.columns;
    std::fill(row, row + c.columns, 0.0f);
    for (const SegmentRows& segment : c.segments) {
      const int64_t start = segment.state ? segment.state->position() : 0;
      for (int64_t t = 0; t < segment.tokens; ++t)
        row[segment.first + t] = segment.weights >= 0 ? exact_angle(start + t, c.packed.fixed_freqs[i])
                                                      : rounded_angle(start + t, c.packed.freqs[i]);
    }
  });
}

int64_t weights_in(std::span<const SegmentRows> segments) {
  int64_t floats = 0;
  for (const SegmentRows& segment : segments) {
    if (segment.weights >= 0)
      floats += static_cast<int64_t>(segment.state->horizons().size()) * (segment.tokens + 1);
  }
  return floats;
}

void add_activity(const Prefill& c, LayerActivity& total) {
  total.tokens += c.rows;
  total.v_tokens += c.rows;
  for (int64_t group = 0; group < c.groups.count; ++group) {
    LayerActivity& part = c.activity[group];
    total.n += part.n;
    total.pairs += part.pairs;
    total.v += part.v;
    total.g += part.g;
    part = {};
  }
}

void keep_x(const Prefill& c, int64_t layer) {
  for (const SegmentRows& segment : c.segments) {
    if (!segment.state || !segment.state->keeps_columns(segment.tokens)) continue;
    for (int64_t t = 0; t < segment.tokens; ++t)
      segment.state->keep_x(layer, segment.state->position() + t, c.x + (segment.first + t) * c.stride);
  }
}

void read_layer(const Prefill& c, ThreadPool& pool, std::span<const RowBlock> blocks, int64_t layer) {
  const auto heads = c.packed.dims.heads;
  keep_x(c, layer);
  for (int64_t head = 0; head < heads && c.rank > 0; ++head)
    reduce(c, layer, &LayerAdapter::encoder, head, c.x_columns);
  pool.run(c.groups.count, [&](int64_t group, int thread) { encode(c, layer, group, thread); });
  pool.run(static_cast<int64_t>(blocks.size()) * heads,
           [&](int64_t i, int thread) { attend(c, blocks[i / heads], layer, i % heads, thread); });
  for (int64_t head = 0; head < heads && c.rank > 0; ++head)
    reduce(c, layer, &LayerAdapter::encoder_v, head, c.attended + head * c.stride * c.columns);
  pool.run(c.groups.count, [&](int64_t group, int thread) { gate(c, layer, group, thread); });
  pool.run((c.rows + kRowBlock - 1) / kRowBlock, [&](int64_t block, int thread) {
    const int64_t end = std::min(c.rows, (block + 1) * kRowBlock);
    for (int64_t row = block * kRowBlock; row < end; ++row) mix(c, layer, row, thread);
  });
}

}  // namespace

size_t prefill_bytes(const Dimensions& dims, int64_t rows, int threads) {
  const Sizes floats(dims, rows);
  const int64_t all = floats.x + floats.x_columns + floats.positions + 2 * floats.neurons + floats.attended +
                      floats.partial + threads * floats.worker;
  return static_cast<size_t>(all) * sizeof(float);
}

const float* prefill(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool,
                     PrefillScratch& scratch, std::span<const Segment> segments,
                     std::span<LayerActivity> activity) {
  const int64_t rows = place_segments(segments, scratch.segments);
  const Groups groups(packed.dims);
  const Sizes floats(packed.dims, rows);
  const int64_t weights = weights_in(scratch.segments), rank = padded_rank(scratch.segments);
  const bool angles = std::any_of(scratch.segments.begin(), scratch.segments.end(),
                                  [&](const SegmentRows& segment) { return angles_given(packed, segment); });
  scratch.activity.assign(static_cast<size_t>(groups.count), {});
  const Prefill c{kernels,
                  packed,
                  scratch.segments,
                  rows,
                  scratch.x.at_least(floats.x),
                  groups,
                  packed.stride,
                  padded(rows),
                  scratch.x_columns.at_least(floats.x_columns),
                  scratch.positions.at_least(floats.positions),
                  scratch.neurons.at_least(floats.neurons),
                  scratch.rotated.at_least(floats.neurons),
                  scratch.attended.at_least(floats.attended),
                  scratch.partial.at_least(floats.partial),
                  scratch.worker.at_least(pool.threads() * floats.worker),
                  floats.worker,
                  scratch.activity.data(),
                  angles ? scratch.angles.at_least(packed.dims.neurons * padded(rows)) : nullptr,
                  scratch.weights.at_least(weights),
                  rank,
                  scratch.low.at_least(packed.dims.heads * rank * padded(rows)),
                  scratch.low_partial.at_least(groups.count * rows * rank)};
  std::fill(c.x_columns, c.x_columns + floats.x_columns, 0.0f);
  std::fill(c.attended, c.attended + floats.attended, 0.0f);
  embed(c, segments);
  set_positions(c);
  set_weights(c);
  if (angles) set_angles(c, pool);
  const std::vector<RowBlock> blocks = row_blocks(c.segments);
  for (int64_t layer = 0; layer < packed.dims.layers; ++layer) {
    read_layer(c, pool, blocks, layer);
    if (!activity.empty()) add_activity(c, activity[layer]);
  }
  for (const SegmentRows& segment : c.segments) {
    if (segment.state) segment.state->advance_flushed(segment.tokens);
  }
  return c.x;
}

}  // namespace bdh::cpu
