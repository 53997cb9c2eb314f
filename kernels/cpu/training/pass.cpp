// The buffers of a pass, and what a group needs before its layer begins.
#include "kernels/cpu/training/pass.h"

#include "kernels/cpu/packed.h"
#include "kernels/horizon.h"

namespace bdh::cpu {

namespace {

constexpr int64_t kMostHeadFloats = int64_t{32} << 20;  // of the heads treated at once

// Rows whose distance is a multiple of 1 KB fall on the same few lines of the first cache.
int64_t spread_columns(int64_t rows) {
  const int64_t columns = padded(rows);
  return columns % 256 == 0 ? columns + kPadding : columns;
}

int64_t most_set_rows(const Plan& plan) {
  int64_t most = 0;
  for (const RowSet& set : plan.sets) most = std::max(most, set.rows);
  return most;
}

int64_t heads_at_once(const Pass& pass) {
  const int64_t of_one = 4 * pass.dims.neurons * pass.most_columns +
                         2 * pass.plan.most_rows * pass.plan.longest + most_set_rows(pass.plan) * pass.stride;
  return std::clamp<int64_t>(kMostHeadFloats / of_one, 1, pass.dims.heads);
}

void place_rows(Pass& p) {
  TrainingScratch& s = p.scratch;
  const int64_t floats = p.rows * p.stride;
  p.x = s.x.at_least((p.gradient ? p.dims.layers + 1 : 2) * floats);
  p.dx = s.dx.at_least(p.gradient ? floats : 0);
  p.y_scale = s.y_scale.at_least(p.dims.layers * p.rows);
  p.z_mean = s.z_mean.at_least(p.dims.layers * p.rows);
  p.z_scale = s.z_scale.at_least(p.dims.layers * p.rows);
}

void place_group(Pass& p) {
  TrainingScratch& s = p.scratch;
  const int64_t rows = p.plan.most_rows, columns = p.most_columns, heads = p.heads_at_once;
  const int64_t neurons = heads * p.dims.neurons * columns;
  const bool backward = p.gradient != nullptr;
  p.x_columns = s.x_columns.at_least(p.stride * columns);
  p.x_rounded = s.x_rounded.at_least(p.options.precision != DType::f32 ? rows * p.stride : 0);
  p.mixed = s.mixed.at_least(rows * p.stride);
  p.mixed_columns = s.mixed_columns.at_least(backward ? p.stride * columns : 0);
  p.cosines = s.cosines.at_least(p.dims.neurons * columns);
  p.sines = s.sines.at_least(p.dims.neurons * columns);
  p.n = s.n.at_least(neurons);
  p.r = s.r.at_least(neurons);
  p.dv = s.dv.at_least(neurons);
  p.dn = s.dn.at_least(backward ? neurons : 0);
  p.scores = s.scores.at_least(heads * rows * p.plan.longest);
  p.score_gradients = s.score_gradients.at_least(backward ? heads * rows * p.plan.longest : 0);
  p.attended = s.attended.at_least(heads * rows * p.stride);
  p.attended_columns = s.attended_columns.at_least(heads * p.stride * columns);
  p.attended_scale = s.attended_scale.at_least(heads * rows);
  p.da = s.da.at_least(backward ? heads * most_set_rows(p.plan) * p.stride : 0);
  p.da_columns = s.da_columns.at_least(backward ? heads * p.stride * columns : 0);
  const int64_t state = p.plan.chunked ? p.all_neurons() * p.stride : 0;
  p.state = s.state.at_least(state);
  p.state_gradient = s.state_gradient.at_least(backward ? state : 0);
  p.worker_floats = 3 * kBlockNeurons * columns + (kBlockRows + 1) * p.stride;
  p.worker = s.worker.at_least(p.pool.threads() * p.worker_floats);
  s.active_n.resize(static_cast<size_t>(heads * p.blocks_of_head()));
  s.active_g.resize(static_cast<size_t>(heads * p.blocks_of_head()));
  s.tokens.resize(static_cast<size_t>(columns));
  s.sequences.resize(static_cast<size_t>(columns));
}

void set_weights(Pass& p) {
  const auto& horizons = p.options.horizons;
  const int64_t distances = p.plan.longest + 1;
  p.weights = horizons.empty()
                  ? nullptr
                  : p.scratch.weights.at_least(static_cast<int64_t>(horizons.size()) * distances);
  for (size_t head = 0; head < horizons.size(); ++head) {
    for (int64_t distance = 0; distance < distances; ++distance)
      p.weights[static_cast<int64_t>(head) * distances + distance] = weight_after(distance, horizons[head]);
  }
}

}  // namespace

void begin_pass(Pass& pass) {
  pass.most_columns = spread_columns(pass.plan.most_rows);
  pass.heads_at_once = heads_at_once(pass);
  place_rows(pass);
  place_group(pass);
  set_weights(pass);
}

void transpose_rows(const Pass& pass, const float* from, const RowBlock& block, float* to) {
  for (int64_t d = 0; d < pass.stride; ++d) {
    for (int64_t i = block.begin; i < block.begin + block.count; ++i)
      to[d * pass.columns + i] = from[i * pass.stride + d];
  }
}

void clear_last_columns(const Pass& pass, float* columns) {
  for (int64_t d = 0; d < pass.stride; ++d)
    std::fill(columns + d * pass.columns + pass.group.rows, columns + (d + 1) * pass.columns, 0.0f);
}

void begin_group(Pass& pass, const RowGroup& group, int64_t layer) {
  pass.group = group;
  pass.layer = layer;
  pass.columns = spread_columns(group.rows);
  const float* x = pass.x_of(layer) + group.first * pass.stride;
  pass.group_x = x;
  if (pass.options.precision != DType::f32) {
    pass.training.round(x, group.rows * pass.stride, pass.options.precision, pass.x_rounded);
    pass.group_x = pass.x_rounded;
  }
  pass.pool.run(pass.row_blocks(), [&](int64_t i, int) {
    const RowBlock block = pass.row_block(i);
    transpose_rows(pass, pass.group_x, block, pass.x_columns);
  });
  clear_last_columns(pass, pass.x_columns);
  for (int64_t i = 0; i < group.rows; ++i) {
    pass.scratch.tokens[static_cast<size_t>(i)] = static_cast<uint32_t>(group.start + i % group.length);
    pass.scratch.sequences[static_cast<size_t>(i)] = static_cast<uint32_t>(group.sequence + i / group.length);
  }
}

}  // namespace bdh::cpu
