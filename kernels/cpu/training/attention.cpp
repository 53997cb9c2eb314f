// Attention forwards and backwards, by blocks of neurons and of rows.
#include "kernels/cpu/training/attention.h"

#include "kernels/cpu/training/products.h"
#include "kernels/horizon.h"

namespace bdh::cpu {

namespace {

/// (length, length) of one head and segment.
float* square(const Pass& p, float* squares, int64_t head, int64_t segment) {
  return squares + (head * p.group.segments() + segment) * p.group.length * p.group.length;
}

// Rows of a (length, length) matrix: weighted by distance, and 0 from the diagonal on.
void mask_rows(const Pass& p, const SegmentBlock& block, const float* weights, float* rows) {
  for (int64_t i = 0; i < block.count; ++i) {
    float* row = rows + i * p.group.length;
    const int64_t before = block.begin + i;
    for (int64_t j = 0; weights && j < before; ++j) row[j] *= weights[before - j];
    std::fill(row + before, row + p.group.length, 0.0f);
  }
}

void scale_rows(float* rows, int64_t count, int64_t width, const float* factors) {
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t d = 0; d < width; ++d) rows[i * width + d] *= factors[i];
  }
}

void attend_block(const Pass& p, const Heads& heads, int64_t head, const SegmentBlock& block, float* a) {
  const int64_t row = block.first + block.begin, keys = block.begin + block.count, length = p.group.length;
  const float* r = of_head(p, p.r, head);
  const float* weights = p.weights_of(heads.first + head);
  float* scores = square(p, p.scores, head, block.segment) + block.begin * length;
  p.kernels.multiply({block.count, keys, p.dims.neurons, r + row, 1, p.columns,
                      plain(r + block.first, p.columns), scores, length, false, block.begin});
  mask_rows(p, block, weights, scores);
  p.round(scores, block.count * length);
  if (p.reads_state) {
    const float* s = p.s + block.segment * p.s_next + (heads.first + head) * p.dims.neurons * p.stride;
    p.kernels.multiply({block.count, p.stride, p.dims.neurons, r + row, 1, p.columns, plain(s, p.stride), a,
                        p.stride, false});
    if (weights) scale_rows(a, block.count, p.stride, weights + block.begin);
  }
  p.kernels.multiply({block.count, p.stride, keys, scores, length, 1,
                      plain(p.group_x + block.first * p.stride, p.stride), a, p.stride, p.reads_state});
  p.round(a, block.count * p.stride);
  float* out = p.attended + (head * p.group.rows + row) * p.stride;
  float* scale = p.attended_scale + head * p.group.rows + row;
  float mean = 0;
  for (int64_t i = 0; i < block.count; ++i)
    p.training.norm_row(a + i * p.stride, p.dims.width, p.stride, out + i * p.stride, &mean, scale + i);
  p.round(out, block.count * p.stride);
  transpose_rows(p, p.attended + head * p.group.rows * p.stride, {row, block.count},
                 p.attended_columns + head * p.stride * p.columns);
}

// r of a block of neurons and one segment, each token times what it is worth `weights` says.
const float* weighted(const Pass& p, const float* r, int64_t count, const float* weights, int64_t step,
                      float* buffer) {
  for (int64_t i = 0; i < count; ++i) {
    const float* weight = weights;
    for (int64_t t = 0; t < p.group.length; ++t, weight += step)
      buffer[i * p.group.length + t] = r[i * p.columns + t] * *weight;
  }
  return buffer;
}

void update_block(const Pass& p, const NeuronBlock& block, int64_t segment, float* buffer) {
  const int64_t length = p.group.length, first = segment * length;
  float* s = p.s + segment * p.s_next + block.row * p.stride;
  const float* keys = p.r + block.local * p.columns + first;
  int64_t keys_stride = p.columns;
  if (const float* weights = p.weights_of(block.head)) {
    p.kernels.decay(s, block.count * p.stride, weights[length]);
    keys = weighted(p, keys, block.count, weights + length, -1, buffer);
    keys_stride = length;
  }
  p.kernels.multiply({block.count, p.stride, length, keys, keys_stride, 1,
                      plain(p.group_x + first * p.stride, p.stride), s, p.stride, true});
}

// ---- gradients ----

// da = the gradient of norm(a), sent back through it, from sum over neurons of dv Ev.
void da_block(const Pass& p, const Heads& heads, int64_t head, const RowBlock& block, double share,
              float* da) {
  std::fill(da, da + block.count * p.stride, 0.0f);
  const float* parameters = p.encoder_v() + (heads.first + head) * p.dims.neurons * p.stride;
  add_rows_product(p, block, of_head(p, p.dv, head), share, parameters, da);
  const int64_t row = head * p.group.rows + block.begin;
  for (int64_t i = 0; i < block.count; ++i) {
    p.training.norm_gradient(p.attended + (row + i) * p.stride, p.attended_scale[row + i], da + i * p.stride,
                             p.dims.width, p.stride, da + i * p.stride);
  }
}

// da transposed, each token times what S was worth to it.
void set_da_columns(const Pass& p, const Heads& heads, int64_t head, const RowBlock& block, const float* da) {
  float* columns = p.da_columns + head * p.stride * p.columns;
  transpose_rows(p, da, block, columns);
  const float* weights = p.weights_of(heads.first + head);
  for (int64_t d = 0; weights && d < p.stride; ++d) {
    for (int64_t i = block.begin; i < block.begin + block.count; ++i)
      columns[d * p.columns + i] *= weights[i % p.group.length];
  }
}

void score_gradient_block(const Pass& p, const Heads& heads, int64_t head, const SegmentBlock& block,
                          const float* da) {
  const int64_t length = p.group.length, keys = block.begin + block.count;
  float* rows = square(p, p.score_gradients, head, block.segment) + block.begin * length;
  p.kernels.multiply({block.count, keys, p.dims.width, da + (block.first + block.begin) * p.stride, p.stride,
                      1, plain(p.x_columns + block.first, p.columns), rows, length, false, block.begin});
  mask_rows(p, block, p.weights_of(heads.first + head), rows);
}

// The part above the diagonal, from that below it.
void mirror_block(const Pass& p, int64_t head, const SegmentBlock& block) {
  const int64_t length = p.group.length, end = block.begin + block.count;
  float* matrix = square(p, p.score_gradients, head, block.segment);
  for (int64_t j = block.begin; j < length; ++j) {
    for (int64_t i = block.begin; i < std::min(end, j); ++i) matrix[i * length + j] = matrix[j * length + i];
  }
}

void encoder_gradient_block(const Pass& p, const NeuronBlock& block, double share, float* dr) {
  const int64_t local_head = block.local / p.dims.neurons, length = p.group.length;
  const float* r = p.r + block.local * p.columns;
  const float* da_columns = p.da_columns + local_head * p.stride * p.columns;
  for (int64_t segment = 0; segment < p.group.segments(); ++segment) {
    const int64_t first = segment * length;
    p.kernels.multiply({block.count, length, length, r + first, p.columns, 1,
                        plain(square(p, p.score_gradients, local_head, segment), length), dr + first,
                        p.columns, false});
    if (!p.reads_state) continue;
    const float* s = p.s + segment * p.s_next + block.row * p.stride;
    p.kernels.multiply({block.count, length, p.dims.width, s, p.stride, 1,
                        plain(da_columns + first, p.columns), dr + first, p.columns, true});
  }
  const int64_t phases = block.begin * p.columns;
  float* dn = p.dn + block.local * p.columns;
  p.training.unrotate_rows(dr, p.columns, p.n + block.local * p.columns, block.count, padded(p.group.rows),
                           p.columns, p.cosines + phases, p.sines + phases, p.columns, dn);
  add_weight_gradient(p, block.count, dn, share, p.group_x, p.encoder_gradient() + block.row * p.stride);
}

// dx of the values: sum over heads and later tokens of scores da.
void value_gradient_block(const Pass& p, const Heads& heads, const SegmentBlock& block, const float* da,
                          int64_t set_rows) {
  const int64_t length = p.group.length, row = block.first + block.begin;
  float* dx = p.dx + (p.group.first + row) * p.stride;
  for (int64_t head = 0; head < heads.count; ++head) {
    const float* scores = square(p, p.scores, head, block.segment) + block.begin * length + block.begin;
    p.kernels.multiply({block.count, p.stride, length - block.begin, scores, 1, length,
                        plain(da + (head * set_rows + row) * p.stride, p.stride), dx, p.stride, true});
  }
}

void add_encoder_product(const Pass& p, const Heads& heads, const RowBlock& block, double share) {
  float* dx = p.dx + (p.group.first + block.begin) * p.stride;
  for (int64_t head = 0; head < heads.count; ++head) {
    add_rows_product(p, block, of_head(p, p.dn, head), share,
                     p.encoder() + (heads.first + head) * p.dims.neurons * p.stride, dx);
  }
}

// ---- what later chunks leave ----

void key_gradient_block(const Pass& p, const NeuronBlock& block, double share, float* dr) {
  const int64_t length = p.group.length, phases = block.begin * p.columns;
  p.kernels.multiply({block.count, length, p.dims.width, p.state_gradient + block.row * p.stride, p.stride, 1,
                      plain(p.x_columns, p.columns), dr, p.columns, false});
  if (const float* weights = p.weights_of(block.head)) {
    for (int64_t i = 0; i < block.count; ++i) {
      for (int64_t t = 0; t < length; ++t) dr[i * p.columns + t] *= weights[length - t];
    }
  }
  float* dn = p.dn + block.local * p.columns;
  std::fill(dn, dn + block.count * p.columns, 0.0f);
  p.training.unrotate_rows(dr, p.columns, p.n + block.local * p.columns, block.count, padded(length),
                           p.columns, p.cosines + phases, p.sines + phases, p.columns, dn);
  add_weight_gradient(p, block.count, dn, share, p.group_x, p.encoder_gradient() + block.row * p.stride);
}

void state_value_block(const Pass& p, const Heads& heads, const RowBlock& block, float* buffer) {
  float* dx = p.dx + (p.group.first + block.begin) * p.stride;
  for (int64_t head = 0; head < heads.count; ++head) {
    const float* weights = p.weights_of(heads.first + head);
    const float* ds = p.state_gradient + (heads.first + head) * p.dims.neurons * p.stride;
    p.kernels.multiply({block.count, p.stride, p.dims.neurons, of_head(p, p.r, head) + block.begin, 1,
                        p.columns, plain(ds, p.stride), buffer, p.stride, false});
    for (int64_t i = 0; i < block.count; ++i) {
      const float weight = weights ? weights[p.group.length - block.begin - i] : 1.0f;
      for (int64_t d = 0; d < p.stride; ++d) dx[i * p.stride + d] += weight * buffer[i * p.stride + d];
    }
  }
}

void update_state_gradient_block(const Pass& p, const NeuronBlock& block, const float* da, float* buffer) {
  float* ds = p.state_gradient + block.row * p.stride;
  const float* keys = p.r + block.local * p.columns;
  int64_t keys_stride = p.columns;
  if (const float* weights = p.weights_of(block.head)) {
    p.kernels.decay(ds, block.count * p.stride, weights[p.group.length]);
    keys = weighted(p, keys, block.count, weights, 1, buffer);
    keys_stride = p.group.length;
  }
  p.kernels.multiply(
      {block.count, p.stride, p.group.length, keys, keys_stride, 1, plain(da, p.stride), ds, p.stride, true});
}

}  // namespace

void set_phases(const Pass& p) {
  const bool exact = !p.options.horizons.empty();
  p.pool.run(p.dims.neurons, [&](int64_t i, int) {
    float* angles = p.cosines + i * p.columns;
    std::fill(angles + p.group.rows, angles + p.columns, 0.0f);
    for (int64_t t = 0; t < p.group.length; ++t) {
      const int64_t position = p.position + p.group.start + t;
      angles[t] = exact ? exact_angle(position, p.fixed_freqs[i]) : rounded_angle(position, p.freqs[i]);
    }
    for (int64_t segment = 1; segment < p.group.segments(); ++segment)
      std::copy(angles, angles + p.group.length, angles + segment * p.group.length);
    p.training.sine_cosine(angles, p.columns, angles, p.sines + i * p.columns);
  });
}

void encode(const Pass& p, const Heads& heads) {
  p.pool.run(neuron_blocks(p, heads), [&](int64_t i, int) {
    const NeuronBlock block = p.neuron_block(heads, i);
    const int64_t phases = block.begin * p.columns, columns = padded(p.group.rows);
    float* n = p.n + block.local * p.columns;
    float* r = p.r + block.local * p.columns;
    p.kernels.multiply({block.count, columns, p.dims.width, p.encoder() + block.row * p.stride, p.stride, 1,
                        plain(p.x_columns, p.columns), n, p.columns, false});
    p.training.rotate_rows(n, block.count, columns, p.columns, p.cosines + phases, p.sines + phases,
                           p.columns, p.options.precision, r);
    p.scratch.active_n[static_cast<size_t>(i)] = p.kernels.count_active(n, p.columns, block.count, columns);
  });
}

void attend(const Pass& p, const Heads& heads) {
  const int64_t blocks = p.segment_blocks();
  for (int64_t head = 0; head < heads.count; ++head)
    clear_last_columns(p, p.attended_columns + head * p.stride * p.columns);
  p.pool.run(heads.count * blocks, [&](int64_t i, int thread) {
    attend_block(p, heads, i / blocks, p.segment_block(i % blocks), p.worker_of(thread));
  });
}

void update_state(const Pass& p, const Heads& heads) {
  const int64_t blocks = neuron_blocks(p, heads);
  p.pool.run(blocks * p.group.segments(), [&](int64_t i, int thread) {
    update_block(p, p.neuron_block(heads, i % blocks), i / blocks, p.worker_of(thread));
  });
}

void attention_gradient(const Pass& p, const Heads& heads, int64_t set_rows, int64_t set_row, bool updates) {
  float* da = p.da + set_row * p.stride;
  const double gated = active_share(p, heads, p.scratch.active_g);
  const double share = active_share(p, heads, p.scratch.active_n);
  const int64_t row_blocks = p.row_blocks(), segment_blocks = p.segment_blocks();
  p.pool.run(heads.count * row_blocks, [&](int64_t i, int) {
    const int64_t head = i / row_blocks;
    const RowBlock block = p.row_block(i % row_blocks);
    float* rows = da + head * set_rows * p.stride;
    da_block(p, heads, head, block, gated, rows + block.begin * p.stride);
    if (p.reads_state) set_da_columns(p, heads, head, block, rows);
  });
  p.pool.run(heads.count * segment_blocks, [&](int64_t i, int) {
    const int64_t head = i / segment_blocks;
    score_gradient_block(p, heads, head, p.segment_block(i % segment_blocks),
                         da + head * set_rows * p.stride);
  });
  p.pool.run(heads.count * segment_blocks, [&](int64_t i, int) {
    mirror_block(p, i / segment_blocks, p.segment_block(i % segment_blocks));
  });
  p.pool.run(neuron_blocks(p, heads), [&](int64_t i, int thread) {
    const NeuronBlock block = p.neuron_block(heads, i);
    encoder_gradient_block(p, block, share, p.worker_of(thread));
    for (int64_t segment = 0; updates && segment < p.group.segments(); ++segment)
      update_block(p, block, segment, p.worker_of(thread));
  });
  p.pool.run(row_blocks, [&](int64_t i, int) { add_encoder_product(p, heads, p.row_block(i), share); });
  p.pool.run(segment_blocks,
             [&](int64_t i, int) { value_gradient_block(p, heads, p.segment_block(i), da, set_rows); });
}

void state_gradient(const Pass& p, const Heads& heads, int64_t set_rows, int64_t set_row, bool last) {
  const double share = active_share(p, heads, p.scratch.active_n);
  if (!last) {
    p.pool.run(neuron_blocks(p, heads), [&](int64_t i, int thread) {
      key_gradient_block(p, p.neuron_block(heads, i), share, p.worker_of(thread));
    });
    p.pool.run(p.row_blocks(), [&](int64_t i, int thread) {
      add_encoder_product(p, heads, p.row_block(i), share);
      state_value_block(p, heads, p.row_block(i), p.worker_of(thread));
    });
  }
  p.pool.run(neuron_blocks(p, heads), [&](int64_t i, int thread) {
    const NeuronBlock block = p.neuron_block(heads, i);
    const int64_t head = block.head - heads.first;
    if (last) {
      float* ds = p.state_gradient + block.row * p.stride;
      std::fill(ds, ds + block.count * p.stride, 0.0f);
    }
    update_state_gradient_block(p, block, p.da + (head * set_rows + set_row) * p.stride, p.worker_of(thread));
  });
}

}  // namespace bdh::cpu
