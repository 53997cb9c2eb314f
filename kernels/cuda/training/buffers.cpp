// The arrays of a pass one after the other.
#include "kernels/cuda/training/buffers.h"

#include <algorithm>

#include "kernels/cuda/prefill.h"
#include "kernels/cuda/training/sums.h"

namespace bdh::cuda {

namespace {

constexpr int64_t kMostLogits = int64_t{32} << 20;
constexpr int64_t kLeastLogitRows = 128;

int64_t element(const PassSizes& s) { return static_cast<int64_t>(size_of(s.precision)); }
int64_t columns_of(const PassSizes& s) { return rounded_up(s.sizes.neurons, kVector); }
int64_t keys_of(const PassSizes& s) { return rounded_up(s.plan.longest, kVector); }
int64_t set_rows(const PassSizes& s) { return int64_t{s.plan.most_segments} * s.tokens; }
bool keeps_state(const PassSizes& s) { return s.plan.chunked || s.carried; }

}  // namespace

int heads_at_once(const PassSizes& s) {
  const int64_t rows = s.plan.most_rows;
  const int64_t of_one = 5 * rows * columns_of(s) * element(s) + rows * keys_of(s) * (2 * element(s) + 4) +
                         (keeps_state(s) ? set_rows(s) * s.sizes.stride * element(s) : 0);
  return static_cast<int>(std::clamp<int64_t>(s.most_bytes / of_one, 1, s.sizes.heads));
}

int logits_at_once(const PassSizes& s) {
  return static_cast<int>(
      std::min<int64_t>(s.plan.most_rows, std::max(kLeastLogitRows, kMostLogits / s.vocab_stride)));
}

void lay_out(const PassSizes& s, Layout& layout, TrainingPass& p, float*& kept) {
  const auto operands = [&](int64_t count) {
    return layout.take_bytes(static_cast<size_t>(count * element(s)));
  };
  const int64_t batch_rows = int64_t{s.sequences} * s.tokens, stride = s.sizes.stride,
                layers = s.sizes.layers;
  const int64_t rows = s.plan.most_rows, heads = heads_at_once(s), logits = logits_at_once(s);
  const int64_t backward = s.backward ? 1 : 0, state = keeps_state(s) ? 1 : 0;
  p.columns = static_cast<int>(columns_of(s));
  p.keys = static_cast<int>(keys_of(s));
  p.score_splits = score_splits(s.sizes, s.precision, rows, s.plan.longest);
  p.x = layout.take<float>((s.backward ? layers + 1 : 2) * batch_rows * stride);
  p.dx = layout.take<float>(backward * batch_rows * stride);
  p.dx_next = layout.take<float>(backward * batch_rows * stride);
  p.y_scale = layout.take<float>(layers * batch_rows);
  p.z_mean = layout.take<float>(layers * batch_rows);
  p.z_scale = layout.take<float>(layers * batch_rows);
  p.losses = layout.take<double>(batch_rows);
  p.x_rows = operands(rows * stride);
  p.dmixed = operands(backward * rows * stride);
  p.n = operands(rows * heads * p.columns);
  p.r = operands(rows * heads * p.columns);
  p.v = operands(backward * rows * heads * p.columns);
  p.dv = operands(backward * rows * heads * p.columns);
  p.dn = operands(backward * rows * heads * p.columns);
  p.score_parts = layout.take<float>(p.score_splits * heads * rows * p.keys);
  p.scores = operands(heads * rows * p.keys);
  p.dscores = operands(backward * heads * rows * p.keys);
  p.own = layout.take<float>(heads * rows * stride);
  p.parts = layout.take<float>(std::max<int64_t>(heads * rows, logits) * kSplits * stride);
  p.mixed = layout.take<float>(s.sizes.heads * kSplits * rows * stride);
  p.attended = operands(heads * rows * stride);
  p.attended_scale = layout.take<float>(heads * rows);
  p.da = operands(backward * heads * rows * stride);
  void* da_set = operands(backward * state * heads * set_rows(s) * stride);
  p.da_set = keeps_state(s) ? da_set : nullptr;
  p.x_weighed = operands(state * (s.damped ? heads * rows * stride : 0));
  const int64_t states = s.plan.chunked ? s.plan.most_segments * s.sizes.rows() * stride : 0;
  kept = layout.take<float>(states);
  p.state_gradient = layout.take<float>(backward * states);
  p.weight_parts =
      layout.take<float>(backward * weight_part_floats(s.sizes, s.precision, static_cast<int>(heads),
                                                       s.plan.most_rows, s.vocab_stride));
  p.logits = layout.take<float>(logits * s.vocab_stride);
  p.dlogits = operands(backward * logits * s.vocab_stride);
}

BatchArrays lay_out_batch(const PassSizes& s, Layout& layout) {
  const int64_t rows = int64_t{s.sequences} * s.tokens, distinct = std::min<int64_t>(rows, s.sizes.vocab);
  return {layout.take<int32_t>(rows),
          layout.take<int32_t>(rows),
          layout.take<int32_t>(rows),
          layout.take<int32_t>(distinct + 1),
          layout.take<int32_t>(distinct),
          layout.take<float>(s.damped ? s.sizes.heads * (s.plan.longest + 1) : 0)};
}

}  // namespace bdh::cuda
