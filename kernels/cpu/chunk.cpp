// Chunks, layer by layer in four phases. Activations are neuron-major, (neurons, rows): then every product
// finds its operands in the order it wants them, and one pair's rotation is the same for a whole vector of
// tokens.
//   encode   by group of neurons           n, r; recall from S; S += r^T x
//   attend   by head and block of rows     a = recalled + tril(r r^T, -1) x; norm
//   gate     by group of neurons           v; g; partial sums of g decoder
//   mix      by block of rows              x = norm(x + norm(sum of the groups' parts))
#include "kernels/cpu/chunk.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/embedding.h"

namespace bdh::cpu {

namespace {

constexpr int64_t kNeuronBlock = 128;  // neurons in flight: their rows and activations share the second cache
constexpr int64_t kRowBlock = 64;      // rows of scores made at once
constexpr int64_t kGroups = 32;        // partial sums kept, about

// Neurons of one head that one task treats and sums. The division depends on the model alone.
struct Groups {
  Slices slices;
  int64_t per_head;
  int64_t count;

  explicit Groups(const Dimensions& dims)
      : slices(dims),
        per_head(std::min(slices.per_head, (kGroups + dims.heads - 1) / dims.heads)),
        count(dims.heads * per_head) {}
  int64_t head(int64_t group) const { return group / per_head; }
  int64_t first_slice(int64_t group) const {
    return head(group) * slices.per_head + group % per_head * slices.per_head / per_head;
  }
  int64_t end_slice(int64_t group) const {
    return head(group) * slices.per_head + (group % per_head + 1) * slices.per_head / per_head;
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
        worker(padded(kNeuronBlock * stride + std::max(kNeuronBlock, kRowBlock) * padded(rows))) {}
};

struct Chunk {
  const Kernels& kernels;
  const PackedParameters& packed;
  const ChunkBatch& batch;
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

  float* partial_of(int64_t group) const { return partial + group * batch.rows * stride; }
  float* scratch_of(int thread) const { return worker + thread * worker_floats; }
};

// A block of neuron-major rows as float32: converted into `buffer` unless they are already.
const float* widened(const Chunk& c, const Rows& rows, int64_t row, int64_t count, float* buffer) {
  const auto* from =
      static_cast<const std::byte*>(rows.data) + static_cast<size_t>(row * rows.stride) * size_of(rows.dtype);
  if (rows.dtype == DType::f32) return reinterpret_cast<const float*>(from);
  c.kernels.widen(from, rows.dtype, count * rows.stride, buffer);
  return buffer;
}

Rows plain(const float* data, int64_t stride) { return {data, DType::f32, stride}; }

// One segment's exchange with S for a block of neurons: recall what S holds, then add the chunk to it.
void exchange(const Chunk& c, const ChunkSegment& segment, int64_t layer, int64_t row, int64_t count,
              bool first, float* a) {
  float* s = segment.state->s(layer, row);
  const float* r = c.rotated + row * c.columns + segment.first;
  if (segment.state->position() > 0) {
    c.kernels.multiply({segment.tokens, c.stride, count, r, 1, c.columns, plain(s, c.stride),
                        a + segment.first * c.stride, c.stride, !first});
  }
  c.kernels.multiply({count, c.stride, segment.tokens, r, c.columns, 1,
                      plain(c.batch.x + segment.first * c.stride, c.stride), s, c.stride, true});
}

void encode_block(const Chunk& c, int64_t layer, const Slice& slice, int64_t begin, bool first, float* a,
                  float* buffer, LayerActivity& activity) {
  const int64_t count = std::min(kNeuronBlock, slice.count - begin), row = slice.row + begin;
  float* n = c.neurons + row * c.columns;
  c.kernels.multiply({count, c.columns, c.stride, widened(c, c.packed.encoder, row, count, buffer), c.stride,
                      1, plain(c.x_columns, c.columns), n, c.columns, false});
  c.kernels.rotate_chunk(n, c.packed.freqs.data() + slice.begin + begin, count, c.columns, c.columns,
                         c.positions, c.rotated + row * c.columns);
  activity.n += c.kernels.count_active(n, c.columns, count, c.columns);
  activity.pairs += c.kernels.count_pairs(n, c.columns, count / 2, c.columns);
  for (const ChunkSegment& segment : c.batch.segments) {
    if (segment.state) exchange(c, segment, layer, row, count, first, a);
  }
}

void encode(const Chunk& c, int64_t layer, int64_t group, int thread) {
  bool first = true;
  for (int64_t i = c.groups.first_slice(group); i < c.groups.end_slice(group); ++i) {
    for (const ChunkSegment& segment : c.batch.segments) {
      if (segment.state) segment.state->fold(layer, i);
    }
    const Slice slice = c.groups.slices[i];
    for (int64_t begin = 0; begin < slice.count; begin += kNeuronBlock, first = false) {
      encode_block(c, layer, slice, begin, first, c.partial_of(group), c.scratch_of(thread),
                   c.activity[group]);
    }
  }
}

// Rows of one segment whose attention one task computes.
struct RowBlock {
  const ChunkSegment* segment;
  int64_t begin;  // within the segment
  int64_t count;
};

std::vector<RowBlock> row_blocks(std::span<const ChunkSegment> segments) {
  std::vector<RowBlock> blocks;
  for (const ChunkSegment& segment : segments) {
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
void sum_parts(const Chunk& c, int64_t first_group, int64_t groups, int64_t row, float* out) {
  std::fill(out, out + c.stride, 0.0f);
  const Rows parts = plain(c.partial_of(first_group) + row * c.stride, c.batch.rows * c.stride);
  c.kernels.accumulate_rows(parts, nullptr, nullptr, groups, c.stride, out);
}

// scores (count, keys) = tril(r r^T, -1), for the rows of a block against all rows of its segment up to them.
void score(const Chunk& c, const RowBlock& block, int64_t head, int64_t keys, float* scores) {
  const int64_t neurons = c.packed.dims.neurons;
  const float* r = c.rotated + head * neurons * c.columns + block.segment->first;
  c.kernels.multiply(
      {block.count, keys, neurons, r + block.begin, 1, c.columns, plain(r, c.columns), scores, keys, false});
  for (int64_t i = 0; i < block.count; ++i)
    std::fill(scores + i * keys + block.begin + i, scores + (i + 1) * keys, 0.0f);
}

void attend(const Chunk& c, const RowBlock& block, int64_t head, int thread) {
  const ChunkSegment& segment = *block.segment;
  const int64_t first = segment.first + block.begin, keys = block.begin + block.count;
  float* a = c.scratch_of(thread);
  float* scores = a + kRowBlock * c.stride;
  const bool recalled = segment.state && segment.state->position() > 0;
  for (int64_t i = 0; i < block.count; ++i) {
    if (recalled) {
      sum_parts(c, head * c.groups.per_head, c.groups.per_head, first + i, a + i * c.stride);
    } else {
      std::fill(a + i * c.stride, a + (i + 1) * c.stride, 0.0f);
    }
  }
  score(c, block, head, keys, scores);
  c.kernels.multiply({block.count, c.stride, keys, scores, keys, 1,
                      plain(c.batch.x + segment.first * c.stride, c.stride), a, c.stride, true});
  float* out = c.attended + head * c.stride * c.columns + first;
  for (int64_t i = 0; i < block.count; ++i)
    c.kernels.norm(a + i * c.stride, c.packed.dims.width, c.stride, a + i * c.stride);
  for (int64_t d = 0; d < c.stride; ++d) {
    for (int64_t i = 0; i < block.count; ++i) out[d * c.columns + i] = a[i * c.stride + d];
  }
}

void gate_block(const Chunk& c, int64_t head, int64_t row, int64_t count, bool first, float* mixed,
                float* buffer, LayerActivity& activity) {
  float* v = buffer + kNeuronBlock * c.stride;
  c.kernels.multiply({count, c.columns, c.stride, widened(c, c.packed.encoder_v, row, count, buffer),
                      c.stride, 1, plain(c.attended + head * c.stride * c.columns, c.columns), v, c.columns,
                      false});
  activity.v += c.kernels.gate_chunk(c.neurons + row * c.columns, c.columns, v, c.columns, count, c.columns);
  activity.g += c.kernels.count_active(v, c.columns, count, c.columns);
  const Rows decoder{static_cast<const std::byte*>(c.packed.decoder.data) +
                         static_cast<size_t>(row * c.stride) * size_of(c.packed.dtype),
                     c.packed.dtype, c.stride};
  c.kernels.multiply({c.batch.rows, c.stride, count, v, 1, c.columns, decoder, mixed, c.stride, !first});
}

void gate(const Chunk& c, int64_t group, int thread) {
  bool first = true;
  for (int64_t i = c.groups.first_slice(group); i < c.groups.end_slice(group); ++i) {
    const Slice slice = c.groups.slices[i];
    for (int64_t begin = 0; begin < slice.count; begin += kNeuronBlock, first = false) {
      gate_block(c, slice.head, slice.row + begin, std::min(kNeuronBlock, slice.count - begin), first,
                 c.partial_of(group), c.scratch_of(thread), c.activity[group]);
    }
  }
}

void transpose_row(const Chunk& c, int64_t row) {
  const float* x = c.batch.x + row * c.stride;
  for (int64_t d = 0; d < c.stride; ++d) c.x_columns[d * c.columns + row] = x[d];
}

void mix(const Chunk& c, int64_t row, int thread) {
  float* mixed = c.scratch_of(thread);
  sum_parts(c, 0, c.groups.count, row, mixed);
  add_and_norm(c.kernels, c.packed, mixed, c.batch.x + row * c.stride);
  transpose_row(c, row);
}

void set_positions(const Chunk& c) {
  for (const ChunkSegment& segment : c.batch.segments) {
    const int64_t start = segment.state ? segment.state->position() : 0;
    for (int64_t t = 0; t < segment.tokens; ++t)
      c.positions[segment.first + t] = static_cast<float>(start + t);
  }
  std::fill(c.positions + c.batch.rows, c.positions + c.columns, 0.0f);
}

void add_activity(const Chunk& c, LayerActivity& total) {
  total.tokens += c.batch.rows;
  total.v_tokens += c.batch.rows;
  for (int64_t group = 0; group < c.groups.count; ++group) {
    LayerActivity& part = c.activity[group];
    total.n += part.n;
    total.pairs += part.pairs;
    total.v += part.v;
    total.g += part.g;
    part = {};
  }
}

void read_layer(const Chunk& c, ThreadPool& pool, std::span<const RowBlock> blocks, int64_t layer) {
  const auto heads = c.packed.dims.heads;
  pool.run(c.groups.count, [&](int64_t group, int thread) { encode(c, layer, group, thread); });
  pool.run(static_cast<int64_t>(blocks.size()) * heads,
           [&](int64_t i, int thread) { attend(c, blocks[i / heads], i % heads, thread); });
  pool.run(c.groups.count, [&](int64_t group, int thread) { gate(c, group, thread); });
  pool.run((c.batch.rows + kRowBlock - 1) / kRowBlock, [&](int64_t block, int thread) {
    const int64_t end = std::min(c.batch.rows, (block + 1) * kRowBlock);
    for (int64_t row = block * kRowBlock; row < end; ++row) mix(c, row, thread);
  });
}

}  // namespace

size_t chunk_bytes(const Dimensions& dims, int64_t rows, int threads) {
  const Sizes floats(dims, rows);
  const int64_t all = floats.x + floats.x_columns + floats.positions + 2 * floats.neurons + floats.attended +
                      floats.partial + threads * floats.worker;
  return static_cast<size_t>(all) * sizeof(float);
}

void read_chunks(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool,
                 ChunkScratch& scratch, const ChunkBatch& batch, std::span<LayerActivity> activity) {
  const Groups groups(packed.dims);
  const Sizes floats(packed.dims, batch.rows);
  scratch.activity.assign(static_cast<size_t>(groups.count), {});
  const Chunk c{kernels,
                packed,
                batch,
                groups,
                packed.stride,
                padded(batch.rows),
                scratch.x_columns.at_least(floats.x_columns),
                scratch.positions.at_least(floats.positions),
                scratch.neurons.at_least(floats.neurons),
                scratch.rotated.at_least(floats.neurons),
                scratch.attended.at_least(floats.attended),
                scratch.partial.at_least(floats.partial),
                scratch.worker.at_least(pool.threads() * floats.worker),
                floats.worker,
                scratch.activity.data()};
  std::fill(c.x_columns, c.x_columns + floats.x_columns, 0.0f);
  std::fill(c.attended, c.attended + floats.attended, 0.0f);
  set_positions(c);
  for (int64_t row = 0; row < batch.rows; ++row) transpose_row(c, row);
  const std::vector<RowBlock> blocks = row_blocks(batch.segments);
  for (int64_t layer = 0; layer < packed.dims.layers; ++layer) {
    read_layer(c, pool, blocks, layer);
    if (!activity.empty()) add_activity(c, activity[layer]);
  }
  for (const ChunkSegment& segment : batch.segments) {
    if (segment.state) segment.state->advance_folded(segment.tokens);
  }
}

}  // namespace bdh::cpu
