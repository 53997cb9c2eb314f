// Decode, layer by layer in four phases:
//   attend   by tile      n, r; readout from S and from the pending tokens; partial sums of a
//   combine  by head      a = sum of the tiles' parts; norm
//   gate     by tile      v where n is active; g; partial sums of g decoder
//   mix      by sequence  x = norm(x + norm(sum of the tiles' parts))
// Bytes that must move for a layer: E whole, and of Ev, the decoder and S the rows of active neurons.
#include "kernels/cpu/decode.h"

#include <cstring>

#include "kernels/cpu/embedding.h"
#include "kernels/cpu/residual.h"
#include "kernels/horizon.h"

namespace bdh::cpu {

namespace {

struct Decode {
  const Kernels& kernels;
  const PackedParameters& packed;
  std::span<const Segment> segments;
  float* x;  // (B, stride)
  NeuronTiles tiles;
  int64_t stride;
  float* attended;          // (B, H, stride): norm(a)
  float* partial;           // (B, tiles, stride)
  float* neurons;           // (B, tiles, kTileNeurons): n
  LayerActivity* activity;  // (B, tiles)
  float* angles;            // (B, padded(N)): exact phases of the sequences that have a horizon

  float* angles_of(int64_t sequence) const { return angles + sequence * padded(tiles.neurons); }

  SequenceState& state(int64_t sequence) const {
    return static_cast<SequenceState&>(*segments[sequence].state);
  }
  int64_t index(int64_t sequence, int64_t tile) const { return sequence * tiles.count + tile; }
};

Rows from_row(const Rows& rows, int64_t row) {
  const auto* data = static_cast<const std::byte*>(rows.data);
  return {data + static_cast<size_t>(row * rows.stride) * size_of(rows.dtype), rows.dtype, rows.stride};
}

int64_t count_active_pairs(const float* n, int64_t count) {
  int64_t pairs = 0;
  for (int64_t i = 0; i < count; i += 2) pairs += n[i] != 0.0f || n[i + 1] != 0.0f;
  return pairs;
}

// a += sum over the pending tokens s of (r . r_s) x_s, the tile's part of it.
void read_pending(const Decode& d, const SequenceState& state, int64_t layer, int64_t tile, const float* r,
                  float* a) {
  int32_t slots[kWindow];
  float scores[kWindow];
  const int64_t pending = state.pending_slots(tile, slots);
  const Rows keys{state.r(layer, 0, tile), DType::f32, state.slot_stride()};
  const Rows values{state.x(layer, 0), DType::f32, d.stride};
  d.kernels.dot_rows(keys, slots, pending, padded(d.tiles[tile].count), r, scores);
  for (int64_t i = 0; i < pending; ++i) scores[i] *= state.weight(tile, pending - i);
  d.kernels.accumulate_rows(values, slots, scores, pending, d.stride, a);
}

void attend(const Decode& d, int64_t layer, int64_t sequence, int64_t i) {
  SequenceState& state = d.state(sequence);
  const NeuronTile tile = d.tiles[i];
  const int64_t at = d.index(sequence, i);
  float* n = d.neurons + at * kTileNeurons;
  float* r = state.r(layer, SequenceState::slot(state.position()), i);
  float* a = d.partial + at * d.stride;

  d.kernels.dot_rows(from_row(d.packed.layer(layer).encoder, tile.row), nullptr, tile.count, d.stride,
                     d.x + sequence * d.stride, n);
  std::fill(n + tile.count, n + padded(tile.count), 0.0f);
  if (state.horizons().empty()) {
    d.kernels.rotate(n, d.packed.freqs.data() + tile.begin, tile.count, static_cast<float>(state.position()),
                     r);
  } else {
    d.kernels.rotate_by(n, d.angles_of(sequence) + tile.begin, tile.count, r);
  }

  std::fill(a, a + d.stride, 0.0f);
  const bool s_is_empty = state.is_s_empty(i);
  float weight = 1.0f;  // of what S holds
  if (state.is_flush_due(i)) {
    state.flush(layer, i);
  } else {
    read_pending(d, state, layer, i, r, a);
    weight = state.weight(i, state.lag(i));
  }
  int32_t index[kTileNeurons];
  float scale[kTileNeurons];
  const int64_t active = s_is_empty ? 0 : compact(r, tile.count, index, scale);
  for (int64_t j = 0; j < active && weight != 1.0f; ++j) scale[j] *= weight;
  const Rows s{state.s(layer, tile.row), DType::f32, d.stride};
  d.kernels.accumulate_rows(s, index, scale, active, d.stride, a);
  d.activity[at].pairs += count_active_pairs(n, tile.count);
}

void combine(const Decode& d, int64_t sequence, int64_t head) {
  float* out = d.attended + (sequence * d.packed.dims.heads + head) * d.stride;
  const Rows parts{d.partial + d.index(sequence, head * d.tiles.per_head) * d.stride, DType::f32, d.stride};
  std::fill(out, out + d.stride, 0.0f);
  d.kernels.accumulate_rows(parts, nullptr, nullptr, d.tiles.per_head, d.stride, out);
  d.kernels.norm(out, d.packed.dims.width, d.stride, out);
}

void gate(const Decode& d, int64_t layer, int64_t sequence, int64_t i) {
  const NeuronTile tile = d.tiles[i];
  const int64_t at = d.index(sequence, i);
  float* mixed = d.partial + at * d.stride;
  int32_t index[kTileNeurons];
  float n[kTileNeurons], v[kTileNeurons];
  const int64_t active = compact(d.neurons + at * kTileNeurons, tile.count, index, n);
  const float* attended = d.attended + (sequence * d.packed.dims.heads + tile.head) * d.stride;
  d.kernels.dot_rows(from_row(d.packed.layer(layer).encoder_v, tile.row), index, active, d.stride, attended,
                     v);

  int64_t gated = 0;
  for (int64_t j = 0; j < active; ++j) {
    const float g = v[j] > 0.0f ? n[j] * v[j] : 0.0f;
    index[gated] = index[j];
    n[gated] = g;
    gated += g != 0.0f;
  }
  std::fill(mixed, mixed + d.stride, 0.0f);
  d.kernels.accumulate_rows(from_row(d.packed.layer(layer).decoder, tile.row), index, n, gated, d.stride,
                            mixed);
  d.activity[at].n += active;
  d.activity[at].g += gated;
}

void mix(const Decode& d, int64_t sequence, float* mixed) {
  float* x = d.x + sequence * d.stride;
  const Rows parts{d.partial + d.index(sequence, 0) * d.stride, DType::f32, d.stride};
  std::fill(mixed, mixed + d.stride, 0.0f);
  d.kernels.accumulate_rows(parts, nullptr, nullptr, d.tiles.count, d.stride, mixed);
  add_and_norm(d.kernels, d.packed, mixed, x);
}

void keep_x(const Decode& d, int64_t layer) {
  for (int64_t b = 0; b < static_cast<int64_t>(d.segments.size()); ++b) {
    const SequenceState& state = d.state(b);
    std::memcpy(state.x(layer, SequenceState::slot(state.position())), d.x + b * d.stride,
                static_cast<size_t>(d.stride) * sizeof(float));
  }
}

// The same for every layer and head.
void set_angles(const Decode& d) {
  for (int64_t b = 0; b < static_cast<int64_t>(d.segments.size()); ++b) {
    const SequenceState& state = d.state(b);
    float* angles = d.angles_of(b);
    const std::vector<uint64_t>& freqs = d.packed.fixed_freqs;
    for (size_t i = 0; i < freqs.size() && !state.horizons().empty(); ++i)
      angles[i] = exact_angle(state.position(), freqs[i]);
  }
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

}  // namespace

const float* decode(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool,
                    DecodeScratch& scratch, std::span<const Segment> segments,
                    std::span<LayerActivity> activity) {
  const NeuronTiles tiles(packed.dims);
  const auto sequences = static_cast<int64_t>(segments.size());
  scratch.activity.assign(static_cast<size_t>(sequences * tiles.count), {});
  const Decode d{kernels,
                 packed,
                 segments,
                 scratch.x.at_least(sequences * packed.stride),
                 tiles,
                 packed.stride,
                 scratch.attended.at_least(sequences * packed.dims.heads * packed.stride),
                 scratch.partial.at_least((sequences * tiles.count + 1) * packed.stride),
                 scratch.neurons.at_least(sequences * tiles.count * kTileNeurons),
                 scratch.activity.data(),
                 scratch.angles.at_least(sequences * padded(packed.dims.neurons))};
  set_angles(d);
  float* mixed = d.partial + sequences * tiles.count * packed.stride;
  for (int64_t b = 0; b < sequences; ++b)
    embed_token(kernels, packed, segments[b].tokens.front(), d.x + b * packed.stride);
  for (int64_t layer = 0; layer < packed.dims.layers; ++layer) {
    keep_x(d, layer);
    pool.run(tiles.count, [&](int64_t i, int) {
      for (int64_t b = 0; b < sequences; ++b) attend(d, layer, b, i);
    });
    for (int64_t b = 0; b < sequences; ++b) {
      for (int64_t head = 0; head < packed.dims.heads; ++head) combine(d, b, head);
    }
    pool.run(tiles.count, [&](int64_t i, int) {
      for (int64_t b = 0; b < sequences; ++b) gate(d, layer, b, i);
    });
    for (int64_t b = 0; b < sequences; ++b) mix(d, b, mixed);
    if (!activity.empty()) add_activity(d, sequences, activity[layer]);
  }
  for (int64_t b = 0; b < sequences; ++b) d.state(b).advance();
  return d.x;
}

}  // namespace bdh::cpu
