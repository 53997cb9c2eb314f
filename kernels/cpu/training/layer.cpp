// The order of a layer's phases. Forwards: group by group. Backwards: the heads one after the other, each
// first forwards through the groups, with S, then, where a sequence has several, backwards, with dS.
#include "kernels/cpu/training/layer.h"

#include "bdh/base/error.h"
#include "kernels/cpu/training/attention.h"
#include "kernels/cpu/training/gate.h"

namespace bdh::cpu {

namespace {

template <class Use>
void for_heads(const Pass& p, const Use& use) {
  for (int64_t first = 0; first < p.dims.heads; first += p.heads_at_once)
    use(Heads{first, std::min(p.heads_at_once, p.dims.heads - first)});
}

// S of the set's sequences: carried, or kept for its chunks alone. Where a gradient is to follow, the forward
// pass leaves what is carried as it is.
void begin_set(Pass& p, const RowSet& set, int64_t layer, bool moves_carried) {
  const int64_t floats = p.all_neurons() * p.stride;
  p.s = p.state;
  p.s_next = 0;
  if (p.carried) {
    float* carried = p.carried + (layer * p.batch.sequences + set.groups.front().sequence) * floats;
    if (moves_carried || !p.plan.chunked) {
      p.s = carried;
      p.s_next = floats;
      return;
    }
    std::copy(carried, carried + floats, p.state);
  } else if (p.plan.chunked) {
    std::fill(p.state, p.state + floats, 0.0f);
  }
}

bool updates_state(const Pass& p, bool moves_carried) {
  return p.plan.chunked || (p.carried && moves_carried);
}

void enter_group(Pass& p, const RowGroup& group, int64_t layer) {
  if (p.batch.stop && (*p.batch.stop)()) fail(ErrorKind::cancelled, "stopped in the middle of a micro-batch");
  const RowGroup before = p.group;
  begin_group(p, group, layer);
  p.reads_state = group.start > 0 || p.position > 0;
  const bool same = before.length == group.length && before.start == group.start && before.rows == group.rows;
  if (!same || !p.phases_set) set_phases(p);
  p.phases_set = true;
}

void finish_rows(const Pass& p, const RowBlock& block) {
  for (int64_t i = block.begin; i < block.begin + block.count; ++i) {
    const int64_t row = p.group.first + i, at = p.layer * p.rows + row;
    const float* x = p.x_of(p.layer) + row * p.stride;
    float *out = p.x_of(p.layer + 1) + row * p.stride, *mixed = p.mixed + i * p.stride;
    float mean = 0;
    p.round(mixed, p.stride);
    p.training.norm_row(mixed, p.dims.width, p.stride, mixed, &mean, p.y_scale + at);
    for (int64_t d = 0; d < p.stride; ++d) mixed[d] += x[d];
    p.training.norm_row(mixed, p.dims.width, p.stride, out, p.z_mean + at, p.z_scale + at);
  }
}

// Of each row what no head changes: dx becomes that of the residual, and the gradient of mixed takes the
// place of what the layer gave, which is needed no more. norm(mixed) is what the kept numbers make of x and
// that.
void begin_backward(const Pass& p) {
  p.pool.run(p.rows, [&](int64_t row, int thread) {
    const int64_t at = p.layer * p.rows + row;
    const float* x = p.x_of(p.layer) + row * p.stride;
    float *z = p.x_of(p.layer + 1) + row * p.stride, *dx = p.dx + row * p.stride, *y = p.worker_of(thread);
    const float deviation = 1.0f / p.z_scale[at], mean = p.z_mean[at];
    for (int64_t d = 0; d < p.stride; ++d) y[d] = z[d] * deviation + mean - x[d];
    p.training.norm_gradient(z, p.z_scale[at], dx, p.dims.width, p.stride, dx);
    p.training.norm_gradient(y, p.y_scale[at], dx, p.dims.width, p.stride, z);
  });
}

void group_backward(Pass& p, const RowSet& set, const RowGroup& group, const Heads& heads, int64_t layer) {
  enter_group(p, group, layer);
  p.mixed = p.x_of(layer + 1) + group.first * p.stride;
  clear_last_columns(p, p.mixed_columns);
  p.pool.run(p.row_blocks(),
             [&](int64_t i, int) { transpose_rows(p, p.mixed, p.row_block(i), p.mixed_columns); });
  encode(p, heads);
  attend(p, heads);
  gate_gradient(p, heads);
  attention_gradient(p, heads, set.rows, group.first - set.first, updates_state(p, true));
}

void set_backward(Pass& p, const RowSet& set, const Heads& heads, int64_t layer) {
  begin_set(p, set, layer, true);
  for (const RowGroup& group : set.groups) group_backward(p, set, group, heads, layer);
  if (set.groups.size() < 2) return;
  for (size_t i = set.groups.size(); i-- > 0;) {
    const RowGroup& group = set.groups[i];
    enter_group(p, group, layer);
    encode(p, heads);
    state_gradient(p, heads, set.rows, group.first - set.first, i + 1 == set.groups.size());
  }
}

}  // namespace

void layer_forward(Pass& p, int64_t layer) {
  for (const RowSet& set : p.plan.sets) {
    begin_set(p, set, layer, !p.gradient);
    for (const RowGroup& group : set.groups) {
      enter_group(p, group, layer);
      std::fill(p.mixed, p.mixed + group.rows * p.stride, 0.0f);
      for_heads(p, [&](const Heads& heads) {
        encode(p, heads);
        attend(p, heads);
        gate(p, heads);
        if (updates_state(p, !p.gradient)) update_state(p, heads);
      });
      p.pool.run(p.row_blocks(), [&](int64_t i, int) { finish_rows(p, p.row_block(i)); });
    }
  }
}

void layer_backward(Pass& p, int64_t layer) {
  p.layer = layer;
  begin_backward(p);
  for (const RowSet& set : p.plan.sets)
    for_heads(p, [&](const Heads& heads) { set_backward(p, set, heads, layer); });
}

}  // namespace bdh::cpu
