// The order of a layer's kernels. Forwards: group by group. Backwards: some heads after the others, each
// first forwards through the groups, with S, then, where a sequence has several, backwards, with dS.
#include "kernels/cuda/training/layer.h"

#include <algorithm>
#include <utility>

#include "kernels/cuda/training/attention_training.h"
#include "kernels/cuda/training/encode_training.h"
#include "kernels/cuda/training/gate_training.h"
#include "kernels/cuda/training/sums.h"

namespace bdh::cuda {

namespace {

void begin_layer(LayerRun& run, int layer) {
  run.pass.layer = layer;
  run.pass.encoder = run.layout.encoder(layer);
  run.pass.encoder_v = run.layout.encoder_v(layer);
  run.pass.decoder = run.layout.decoder(layer);
}

template <class Use>
void for_heads(LayerRun& run, const Use& use) {
  const int all = run.pass.sizes.heads;
  for (int first = 0; first < all; first += run.heads_at_once) {
    run.pass.first_head = first;
    run.pass.heads = std::min(run.heads_at_once, all - first);
    use();
  }
}

// S of the set's sequences: carried, or kept for its groups alone. Where a gradient is to follow, the forward
// pass leaves what is carried as it is.
void begin_set(LayerRun& run, const TrainingSet& set, bool moves_carried) {
  TrainingPass& p = run.pass;
  const TrainingGroup& first = set.groups.front();
  const int64_t floats = p.sizes.rows() * p.sizes.stride;
  const size_t bytes = static_cast<size_t>(first.segments * floats) * sizeof(float);
  float* carried =
      run.carried ? run.carried + (int64_t{p.layer} * p.sequences + first.sequence) * floats : nullptr;
  p.s = carried && (moves_carried || !run.plan.chunked) ? carried : run.kept;
  if (p.s == carried || !p.s) return;
  if (carried) {
    check(cudaMemcpyAsync(p.s, carried, bytes, cudaMemcpyDeviceToDevice, run.stream), "copying a state");
  } else {
    check(cudaMemsetAsync(p.s, 0, bytes, run.stream), "clearing GPU memory");
  }
}

bool updates_state(const LayerRun& run, bool moves_carried) {
  return run.plan.chunked || (run.carried && moves_carried);
}

void enter_group(LayerRun& run, const TrainingGroup& group, bool backward) {
  TrainingPass& p = run.pass;
  p.sequence = group.sequence;
  p.segments = group.segments;
  p.start = group.start;
  p.length = group.length;
  p.rows = group.rows();
  p.reads_state = group.start > 0 || p.position > 0;
  begin_group(p, backward, run.stream);
}

void group_backward(LayerRun& run, const TrainingGroup& group) {
  enter_group(run, group, true);
  encode_training(run.pass, run.stream);
  attend_training(run.pass, run.stream);
  gate_gradient(run.pass, run.stream);
  attention_gradient(run.pass, run.stream);
  encode_gradient(run.pass, run.stream);
  if (updates_state(run, true)) update_state(run.pass, run.stream);
}

// What the groups behind each leave for it, from the last to the first.
void set_state_backward(LayerRun& run, const TrainingSet& set) {
  TrainingPass& p = run.pass;
  const size_t bytes =
      static_cast<size_t>(set.groups.front().segments * p.sizes.rows() * p.sizes.stride) * sizeof(float);
  check(cudaMemsetAsync(p.state_gradient, 0, bytes, run.stream), "clearing GPU memory");
  for (size_t i = set.groups.size(); i-- > 0;) {
    enter_group(run, set.groups[i], false);
    encode_training(p, run.stream);
    if (i + 1 < set.groups.size()) {
      state_gradient(p, run.stream);
      encode_gradient(p, run.stream);
    }
    if (i > 0) update_state_gradient(p, run.stream);
  }
}

}  // namespace

void layer_forward(LayerRun& run, int layer) {
  const Range range("layer");
  begin_layer(run, layer);
  const bool moves_carried = !run.pass.gradient;
  for (const TrainingSet& set : run.plan.sets) {
    begin_set(run, set, moves_carried);
    for (const TrainingGroup& group : set.groups) {
      enter_group(run, group, false);
      for_heads(run, [&] {
        encode_training(run.pass, run.stream);
        attend_training(run.pass, run.stream);
        gate_training(run.pass, run.stream);
        if (updates_state(run, moves_carried)) update_state(run.pass, run.stream);
      });
      finish_group(run.pass, run.stream);
    }
  }
}

void layer_backward(LayerRun& run, int layer) {
  const Range range("layer gradient");
  begin_layer(run, layer);
  begin_dx(run.pass, run.stream);
  for (const TrainingSet& set : run.plan.sets) {
    begin_set(run, set, true);
    for_heads(run, [&] {
      for (const TrainingGroup& group : set.groups) group_backward(run, group);
      if (set.groups.size() > 1) set_state_backward(run, set);
    });
  }
  std::swap(run.pass.dx, run.pass.dx_next);
}

}  // namespace bdh::cuda
