// Decode, layer by layer in four phases:
//   attend   by tile      n, r; readout from S, or columns, and from the pending tokens; partial sums of a
//   combine  by head      a = sum of the tiles' parts, or their scores times x; norm
//   gate     by tile      v where n is active; g; partial sums of g decoder
//   mix      by sequence  x = norm(x + norm(sum of the tiles' parts))
// Bytes that must move for a layer: E whole, and of Ev, the decoder and S the rows of active neurons.
#include "kernels/cpu/decode.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cpu/adapters.h"
#include "kernels/cpu/embedding.h"
#include "kernels/cpu/residual.h"
#include "kernels/horizon.h"

namespace bdh::cpu {

namespace {

// One token that is read, of a batch of B.
struct Token {
  SequenceState* state;
  int64_t position;
  int32_t token;
  TokenTrace* trace;
  const Adapter* adapter;  // or null
};

struct Decode {
  const Kernels& kernels;
  const PackedParameters& packed;
  std::span<const Token> batch;  // the tokens of one sequence follow one another
  float* x;                      // (B, stride)
  NeuronTiles tiles;
  int64_t stride;
  float* attended;  // (H, B, stride): norm(a)
  float* partial;   // (B, tiles, stride)
  float* neurons;   // (B, neuron_stride): n, kTileNeurons of each tile
  int64_t neuron_stride;
  LayerActivity* activity;  // (B, tiles)
  float* angles;            // (B, padded(N)): of the tokens whose angles are given
  float* flushed;           // of a provisional read: (tiles, kTileNeurons, stride), rows of S as they will be
  uint8_t* known;           // (tiles, kTileNeurons): 1 where that row has been made
  std::vector<FiredNeuron>* fired;  // (B, tiles): of the layer, where there is a trace
  int64_t rank;                     // padded: the largest of the adapters'; 0 where there are none
  float* low;                       // (B, H, rank): what an adapter makes of x, or norm(a)
  float* low_partial;               // (B, tiles, rank): and of g, the tile's part

  float* angles_of(int64_t b) const { return angles + b * padded(tiles.neurons); }
  int64_t index(int64_t b, int64_t tile) const { return b * tiles.count + tile; }
  float* neurons_of(int64_t b, int64_t tile) const {
    return neurons + b * neuron_stride + tile * kTileNeurons;
  }
  float* attended_by(int64_t b, int64_t head) const {
    return attended + (head * std::ssize(batch) + b) * stride;
  }
  float* low_of(int64_t b, int64_t head) const { return low + (b * packed.dims.heads + head) * rank; }
};

bool angles_given(const PackedParameters& packed, const Token& token) {
  return !token.state->horizons().empty() || token.position >= packed.rotated_positions;
}

// n is 0 or positive: a pair's bits tell.
int64_t count_active_pairs(const float* n, int64_t count) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < count; i += 2) {
    uint64_t bits = 0;
    std::memcpy(&bits, n + i, sizeof bits);
    pairs += bits != 0;
  }
  return pairs;
}

// a += sum over the pending tokens s of (r . r_s) x_s, the tile's part of it.
void read_pending(const Decode& d, const Token& token, int64_t layer, int64_t tile, const float* r,
                  float* a) {
  const SequenceState& state = *token.state;
  int32_t slots[kWindow];
  float scores[kWindow];
  const int64_t pending = state.pending_slots(tile, token.position, slots);
  const Rows keys{state.r(layer, 0, tile), DType::f32, state.slot_stride()};
  const Rows values{state.x(layer, 0), DType::f32, d.stride};
  d.kernels.dot_rows(keys, slots, pending, padded(d.tiles[tile].count), r, scores);
  for (int64_t i = 0; i < pending; ++i) scores[i] *= state.weight(tile, pending - i);
  d.kernels.accumulate_rows(values, slots, scores, pending, d.stride, a);
}

// a += r S, of the active rows alone. Where the tile's flush is due at this token or at a provisional one
// before it, S is read as it will be then.
void read_s(const Decode& d, const Token& token, int64_t layer, int64_t i, const float* r, float weight,
            float* a) {
  const SequenceState& state = *token.state;
  const NeuronTile tile = d.tiles[i];
  int32_t index[kTileNeurons], missing[kTileNeurons];
  float scale[kTileNeurons];
  const int64_t active = d.kernels.compact(r, nullptr, tile.count, scale, index);
  int64_t count = 0;  // of the rows that no token before this one has read
  for (int64_t j = 0; j < active && weight != 1.0f; ++j) scale[j] *= weight;
  const int64_t flush = SequenceState::last_flush(i, token.position);
  if (!d.flushed || flush < state.position()) {
    return d.kernels.accumulate_rows(state.s(layer, i), index, scale, active, d.stride, a);
  }
  float* rows = d.flushed + i * kTileNeurons * d.stride;
  uint8_t* known = d.known + i * kTileNeurons;
  for (int64_t j = 0; j < active; ++j) {
    if (known[index[j]]) continue;
    known[index[j]] = 1;
    missing[count++] = index[j];
  }
  state.flushed_rows(layer, i, flush, missing, count, rows);
  d.kernels.accumulate_rows({rows, DType::f32, d.stride}, index, scale, active, d.stride, a);
}

// In token form the tile's part is not of a but of the scores r . r_s of all tokens s.
void score_tokens(const Decode& d, const Token& token, int64_t layer, int64_t i, const float* r,
                  float* scores) {
  const SequenceState& state = *token.state;
  const NeuronTile tile = d.tiles[i];
  int32_t index[kTileNeurons], slots[kWindow];
  float scale[kTileNeurons];
  const int64_t active = d.kernels.compact(r, nullptr, tile.count, scale, index);
  const int64_t held = state.held(i, token.position) - state.begin(), width = state.column_block();
  for (int64_t begin = 0; begin < held; begin += width) {
    d.kernels.accumulate_rows(state.columns(layer, begin / width, i, 0), index, scale, active,
                              padded(std::min(width, held - begin)), scores + begin);
  }
  if (SequenceState::is_flush_due(i, token.position)) return;
  const int64_t pending = state.pending_slots(i, token.position, slots);
  const Rows keys{state.r(layer, 0, i), DType::f32, state.slot_stride()};
  d.kernels.dot_rows(keys, slots, pending, padded(tile.count), r, scores + held);
}

// n of all tokens before the rotation, so that a tile's rows of E are in the second cache for all of them.
void encode(const Decode& d, int64_t layer, int64_t i) {
  const NeuronTile tile = d.tiles[i];
  const Rows encoder = from_row(d.packed.layer(layer).encoder, tile.row);
  const int64_t tokens = std::ssize(d.batch);
  float* n = d.neurons_of(0, i);
  if (!d.packed.is_quantized())
    return d.kernels.dot_rows_by_all(encoder, tile.count, d.stride, d.x, tokens, n, d.neuron_stride);
  for (int64_t b = 0; b < tokens; ++b)
    d.kernels.dot_rows(encoder, nullptr, tile.count, d.stride, d.x + b * d.stride, d.neurons_of(b, i));
}

// What an adapter adds to x E, or to norm(a) E_v, in a tile.
void add_low(const Decode& d, const LowRank* update, int64_t b, const NeuronTile& tile, float* out) {
  if (update)
    expand(d.kernels, *update, tile.head, d.low_of(b, tile.head), tile.begin, padded(tile.count), out);
}

// x: `step` numbers from token to token, and head_step from head to head.
void reduce_all(const Decode& d, int64_t layer, LowRank LayerAdapter::*matrix, const float* x, int64_t step,
                int64_t head_step) {
  for (int64_t b = 0; b < std::ssize(d.batch); ++b) {
    const LowRank* update = update_of(d.batch[b].adapter, layer, matrix);
    for (int64_t head = 0; head < d.packed.dims.heads && update; ++head)
      reduce(d.kernels, *update, head, x + b * step + head * head_step, d.low_of(b, head));
  }
}

void attend(const Decode& d, int64_t layer, int64_t b, int64_t i) {
  const Token& token = d.batch[b];
  SequenceState& state = *token.state;
  const NeuronTile tile = d.tiles[i];
  const int64_t at = d.index(b, i);
  if (d.flushed && token.position == state.position())
    std::fill_n(d.known + i * kTileNeurons, kTileNeurons, uint8_t{0});
  float* n = d.neurons_of(b, i);
  add_low(d, update_of(token.adapter, layer, &LayerAdapter::encoder), b, tile, n);
  float* r = state.r(layer, SequenceState::slot(token.position), i);
  float* a = d.partial + at * d.stride;

  std::fill(n + tile.count, n + padded(tile.count), 0.0f);
  if (!angles_given(d.packed, token)) {
    d.kernels.rotate(n, d.packed.freqs.data() + tile.begin, tile.count, static_cast<float>(token.position),
                     r);
  } else {
    d.kernels.rotate_by(n, d.angles_of(b) + tile.begin, tile.count, r);
  }

  std::fill(a, a + d.stride, 0.0f);
  const bool due = SequenceState::is_flush_due(i, token.position);
  if (due && (!d.flushed || state.are_columns(token.position))) state.flush(layer, i, token.position);
  if (state.reads_columns(i, token.position)) {
    score_tokens(d, token, layer, i, r, a);
  } else {
    if (!due) read_pending(d, token, layer, i, r, a);
    const float weight = due ? 1.0f : state.weight(i, state.lag(i, token.position));  // of what S holds
    read_s(d, token, layer, i, r, weight, a);
  }
  d.activity[at].pairs += count_active_pairs(n, tile.count);
}

// The tiles' parts are of a, or scores. space: stride numbers.
void combine(const Decode& d, int64_t layer, int64_t b, int64_t head, float* space) {
  const Token& token = d.batch[b];
  const SequenceState& state = *token.state;
  const int64_t first = head * d.tiles.per_head, last = first + d.tiles.per_head;
  const auto has_scores = [&](int64_t tile) { return state.reads_columns(tile, token.position); };
  float* out = d.attended_by(b, head);
  std::fill(out, out + d.stride, 0.0f);
  std::fill(space, space + d.stride, 0.0f);
  int64_t scores = 0;  // tiles that have such
  for (int64_t tile = first; tile < last;) {
    int64_t end = tile + 1;
    while (end < last && has_scores(end) == has_scores(tile)) ++end;
    const Rows parts{d.partial + d.index(b, tile) * d.stride, DType::f32, d.stride};
    d.kernels.accumulate_rows(parts, nullptr, nullptr, end - tile, d.stride, has_scores(tile) ? space : out);
    scores += has_scores(tile) ? end - tile : 0;
    tile = end;
  }
  if (scores > 0) {
    const int64_t tokens = token.position - state.begin();
    for (int64_t s = 0; s < tokens; ++s) space[s] *= state.weight(first, tokens - s);
    const Rows x{state.x_of_tokens(layer), DType::f32, d.stride};
    d.kernels.accumulate_rows(x, nullptr, space, tokens, d.stride, out);
  }
  d.kernels.norm(out, d.packed.dims.width, d.stride, out);
}

void note_fired(const NeuronTile& tile, const int32_t* index, const float* n, const float* v, int64_t count,
                std::vector<FiredNeuron>& fired) {
  for (int64_t j = 0; j < count; ++j)
    fired.push_back({static_cast<int32_t>(tile.row) + index[j], n[j], v[j] > 0.0f ? n[j] * v[j] : 0.0f});
}

void adapt_v(const Decode& d, int64_t layer, int64_t b, const NeuronTile& tile, const int32_t* index,
             int64_t active, float* v) {
  alignas(64) float added[kTileNeurons] = {};
  add_low(d, update_of(d.batch[b].adapter, layer, &LayerAdapter::encoder_v), b, tile, added);
  for (int64_t j = 0; j < active; ++j) v[j] += added[index[j]];
}

// What an adapter makes of a tile's g.
void reduce_gated(const Decode& d, int64_t layer, int64_t b, int64_t i, const int32_t* index, const float* g,
                  int64_t gated) {
  const LowRank* update = update_of(d.batch[b].adapter, layer, &LayerAdapter::decoder);
  if (!update) return;
  float* low = d.low_partial + d.index(b, i) * d.rank;
  std::fill(low, low + d.rank, 0.0f);
  d.kernels.accumulate_rows(rows_of(update->left, d.tiles[i].row), index, g, gated, update->left.stride, low);
}

int64_t active_neurons(const Decode& d, int64_t sequence, int64_t i, float* n, int32_t* index) {
  return d.kernels.compact(d.neurons_of(sequence, i), nullptr, d.tiles[i].count, n, index);
}

// The gate when v of the active neurons is known. index, n, v: theirs, which are overwritten.
void gate_by(const Decode& d, int64_t layer, int64_t sequence, int64_t i, int32_t* index, float* n, float* v,
             int64_t active) {
  const NeuronTile tile = d.tiles[i];
  const int64_t at = d.index(sequence, i);
  float* mixed = d.partial + at * d.stride;
  if (d.batch[sequence].adapter) adapt_v(d, layer, sequence, tile, index, active, v);

  if (d.batch[sequence].trace) note_fired(tile, index, n, v, active, d.fired[at]);
  for (int64_t j = 0; j < active; ++j) n[j] *= std::max(0.0f, v[j]);
  const int64_t gated = d.kernels.compact(n, index, active, n, index);
  std::fill(mixed, mixed + d.stride, 0.0f);
  d.kernels.accumulate_rows(from_row(d.packed.layer(layer).decoder, tile.row), index, n, gated, d.stride,
                            mixed);
  reduce_gated(d, layer, sequence, i, index, n, gated);
  d.activity[at].n += active;
  d.activity[at].g += gated;
}

void gate(const Decode& d, int64_t layer, int64_t sequence, int64_t i) {
  int32_t index[kTileNeurons];
  float n[kTileNeurons], v[kTileNeurons];
  const int64_t active = active_neurons(d, sequence, i, n, index);
  const Rows encoder_v = from_row(d.packed.layer(layer).encoder_v, d.tiles[i].row);
  d.kernels.dot_rows(encoder_v, index, active, d.stride, d.attended_by(sequence, d.tiles[i].head), v);
  gate_by(d, layer, sequence, i, index, n, v, active);
}

// How many sequences a row of E_v is read for at once.
int64_t gated_together(const Kernels& kernels, const PackedParameters& packed) {
  if (packed.is_quantized() || !kernels.dot_pairs) return 1;
  return std::clamp<int64_t>(kMostNumbersOfX / (2 * padded(packed.stride / 2)), 1, kMostGated);
}

// Pairs of a neuron and a sequence in which it is active, in the order of neurons.
int64_t pair_up(GateScratch& scratch, int64_t sequences) {
  int32_t place[kTileNeurons + 1] = {};
  for (int64_t b = 0; b < sequences; ++b) {
    for (int64_t j = 0; j < scratch.active[b]; ++j) ++place[scratch.index[b][j] + 1];
  }
  for (int64_t neuron = 0; neuron < kTileNeurons; ++neuron) place[neuron + 1] += place[neuron];
  const int64_t pairs = place[kTileNeurons];
  for (int64_t b = 0; b < sequences; ++b) {
    for (int64_t j = 0; j < scratch.active[b]; ++j) {
      const int32_t neuron = scratch.index[b][j];
      scratch.pairs[place[neuron]++] = {static_cast<int16_t>(neuron), static_cast<int16_t>(b)};
    }
  }
  return pairs;
}

// The same for one sequence or several, from `first` on. gates: the workers', where there are several.
void gate_some(const Decode& d, int64_t layer, int64_t first, int64_t sequences, int64_t i,
               GateScratch* gates, int worker) {
  if (sequences == 1) return gate(d, layer, first, i);
  GateScratch& scratch = gates[worker];
  for (int64_t b = 0; b < sequences; ++b)
    scratch.active[b] = active_neurons(d, first + b, i, scratch.n[b], scratch.index[b]);
  const Rows encoder_v = from_row(d.packed.layer(layer).encoder_v, d.tiles[i].row);
  d.kernels.dot_pairs(encoder_v, scratch.pairs, pair_up(scratch, sequences), d.stride,
                      d.attended_by(first, d.tiles[i].head), d.stride, sequences, scratch.v[0], kVStride);
  for (int64_t b = 0; b < sequences; ++b) {
    float v[kTileNeurons];
    for (int64_t j = 0; j < scratch.active[b]; ++j) v[j] = scratch.v[b][scratch.index[b][j]];
    gate_by(d, layer, first + b, i, scratch.index[b], scratch.n[b], v, scratch.active[b]);
  }
}

// What an adapter adds to g decoder.
void adapt_mixed(const Decode& d, int64_t layer, int64_t b, float* mixed) {
  const LowRank* update = update_of(d.batch[b].adapter, layer, &LayerAdapter::decoder);
  if (!update) return;
  float* low = d.low_of(b, 0);
  std::fill(low, low + d.rank, 0.0f);
  const Rows parts{d.low_partial + d.index(b, 0) * d.rank, DType::f32, d.rank};
  d.kernels.accumulate_rows(parts, nullptr, nullptr, d.tiles.count, d.rank, low);
  expand(d.kernels, *update, 0, low, 0, d.stride, mixed);
}

void mix(const Decode& d, int64_t layer, int64_t sequence, float* mixed) {
  float* x = d.x + sequence * d.stride;
  const Rows parts{d.partial + d.index(sequence, 0) * d.stride, DType::f32, d.stride};
  std::fill(mixed, mixed + d.stride, 0.0f);
  d.kernels.accumulate_rows(parts, nullptr, nullptr, d.tiles.count, d.stride, mixed);
  adapt_mixed(d, layer, sequence, mixed);
  add_and_norm(d.kernels, d.packed, mixed, x);
}

void keep_x(const Decode& d, int64_t layer) {
  for (int64_t b = 0; b < std::ssize(d.batch); ++b) {
    const Token& token = d.batch[b];
    token.state->keep_x(layer, token.position, d.x + b * d.stride);
  }
}

// The same for every layer and head.
void set_angles(const Decode& d) {
  for (int64_t b = 0; b < std::ssize(d.batch); ++b) {
    const Token& token = d.batch[b];
    if (!angles_given(d.packed, token)) continue;
    float* angles = d.angles_of(b);
    const bool exact = !token.state->horizons().empty();
    for (size_t i = 0; i < d.packed.freqs.size(); ++i)
      angles[i] = exact ? exact_angle(token.position, d.packed.fixed_freqs[i])
                        : rounded_angle(token.position, d.packed.freqs[i]);
  }
}

std::vector<Token> batch_of(std::span<const Segment> segments) {
  std::vector<Token> batch;
  for (const Segment& segment : segments) {
    auto* state = static_cast<SequenceState*>(segment.state);
    for (size_t i = 0; i < segment.tokens.size(); ++i)
      batch.push_back({state, state->position() + static_cast<int64_t>(i), segment.tokens[i], segment.trace,
                       segment.adapter});
  }
  return batch;
}

void add_activity(const Decode& d, int64_t sequences, LayerActivity& total) {
  total.tokens += sequences;
  for (int64_t i = 0; i < sequences * d.tiles.count; ++i) {
    total.n += d.activity[i].n;
    total.pairs += d.activity[i].pairs;
    total.g += d.activity[i].g;
    d.activity[i] = {};
  }
}

// Of a few sequences it is less work than waking threads for it.
template <class Body>
void for_each(ThreadPool& pool, int64_t sequences, int64_t parts, const Body& body) {
  constexpr int64_t kFewSequences = 3;
  const auto one = [&](int64_t i, int worker) { body(i / parts, i % parts, worker); };
  if (sequences > kFewSequences) return pool.run(sequences * parts, one);
  for (int64_t i = 0; i < sequences * parts; ++i) one(i, 0);
}

/// The tiles' lists as one.
void add_to_traces(const Decode& d, int64_t layer) {
  for (int64_t b = 0; b < std::ssize(d.batch); ++b) {
    if (!d.batch[b].trace) continue;
    std::vector<FiredNeuron>& all = d.batch[b].trace->at(static_cast<size_t>(layer));
    for (int64_t i = 0; i < d.tiles.count; ++i) {
      std::vector<FiredNeuron>& part = d.fired[d.index(b, i)];
      all.insert(all.end(), part.begin(), part.end());
      part.clear();
    }
  }
}

}  // namespace

const float* decode(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool,
                    DecodeScratch& scratch, std::span<const Segment> segments,
                    std::span<LayerActivity> activity, bool provisional) {
  const NeuronTiles tiles(packed.dims);
  const std::vector<Token> batch = batch_of(segments);
  const int64_t count = std::ssize(batch);
  scratch.activity.assign(static_cast<size_t>(count * tiles.count), {});
  const bool is_traced =
      std::any_of(batch.begin(), batch.end(), [](const Token& token) { return token.trace; });
  scratch.fired.resize(is_traced ? static_cast<size_t>(count * tiles.count) : 0);
  for (const Token& token : batch) {
    if (token.trace) token.trace->assign(static_cast<size_t>(packed.dims.layers), {});
  }
  const int64_t rank = padded_rank(batch);
  const int64_t neuron_stride = tiles.count * kTileNeurons + kPadding;  // as for kVStride
  if (provisional) scratch.known.resize(static_cast<size_t>(tiles.count * kTileNeurons));
  const Decode d{kernels,
                 packed,
                 batch,
                 scratch.x.at_least(count * packed.stride),
                 tiles,
                 packed.stride,
                 scratch.attended.at_least(count * packed.dims.heads * packed.stride),
                 scratch.partial.at_least((count * tiles.count + pool.threads()) * packed.stride),
                 scratch.neurons.at_least(count * neuron_stride),
                 neuron_stride,
                 scratch.activity.data(),
                 scratch.angles.at_least(count * padded(packed.dims.neurons)),
                 provisional ? scratch.flushed.at_least(tiles.count * kTileNeurons * packed.stride) : nullptr,
                 scratch.known.data(),
                 scratch.fired.data(),
                 rank,
                 scratch.low.at_least(count * packed.dims.heads * rank),
                 scratch.low_partial.at_least(count * tiles.count * rank)};
  const int64_t together = std::min(count, gated_together(kernels, packed));
  GateScratch* gates = scratch.gates.at_least(together > 1 ? pool.threads() : 0);
  // A tile that is flushed takes longest: begun with, so that threads end together.
  const int64_t longest = SequenceState::first_due(batch[0].position) % tiles.count;
  set_angles(d);
  const auto space_of = [&](int worker) { return d.partial + (count * tiles.count + worker) * d.stride; };
  for (int64_t b = 0; b < count; ++b)
    embed_token(kernels, packed, batch[b].token, batch[b].adapter, d.x + b * packed.stride);
  for (int64_t layer = 0; layer < packed.dims.layers; ++layer) {
    keep_x(d, layer);
    reduce_all(d, layer, &LayerAdapter::encoder, d.x, d.stride, 0);
    pool.run(tiles.count, [&](int64_t n, int) {
      const int64_t i = (n + longest) % tiles.count;
      encode(d, layer, i);
      for (int64_t b = 0; b < count; ++b) attend(d, layer, b, i);
    });
    for_each(pool, count, packed.dims.heads,
             [&](int64_t b, int64_t head, int worker) { combine(d, layer, b, head, space_of(worker)); });
    reduce_all(d, layer, &LayerAdapter::encoder_v, d.attended, d.stride, count * d.stride);
    pool.run(tiles.count, [&](int64_t i, int worker) {
      for (int64_t b = 0; b < count; b += together)
        gate_some(d, layer, b, std::min(together, count - b), i, gates, worker);
    });
    for_each(pool, count, 1, [&](int64_t b, int64_t, int worker) { mix(d, layer, b, space_of(worker)); });
    if (is_traced) add_to_traces(d, layer);
    if (!activity.empty()) add_activity(d, count, activity[layer]);
  }
  for (const Segment& segment : segments) {
    auto& state = static_cast<SequenceState&>(*segment.state);
    state.set_provisional(provisional ? std::ssize(segment.tokens) : 0);
    if (!provisional) state.advance();
  }
  return d.x;
}

}  // namespace bdh::cpu
