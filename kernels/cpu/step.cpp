// One token a sequence, layer by layer in four phases:
//   attend   by slice     n, r; recall from S and from the waiting tokens; partial sums of a
//   combine  by head      a = sum of the slices' parts; norm
//   gate     by slice     v where n is active; g; partial sums of g decoder
//   mix      by sequence  x = norm(x + norm(sum of the slices' parts))
// Bytes that must move for a layer: E whole, and of Ev, the decoder and S the rows of active neurons.
#include "kernels/cpu/step.h"

#include <cstring>

#include "kernels/cpu/embedding.h"

namespace bdh::cpu {

namespace {

struct Step {
  const Kernels& kernels;
  const PackedParameters& packed;
  const StepBatch& batch;
  Slices slices;
  int64_t stride;
  float* attended;          // (B, H, stride): norm(a)
  float* partial;           // (B, slices, stride)
  float* neurons;           // (B, slices, kSlice): n
  LayerActivity* activity;  // (B, slices)

  int64_t unit(int64_t sequence, int64_t slice) const { return sequence * slices.count + slice; }
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

// a += sum over the waiting tokens s of (r . r_s) x_s, the slice's part of it.
void recall_waiting(const Step& step, const SequenceState& state, int64_t layer, int64_t slice,
                    const float* r, float* a) {
  int32_t slots[kWindow];
  float scores[kWindow];
  const int64_t waiting = state.waiting_slots(slice, slots);
  const Rows keys{state.r(layer, 0, slice), DType::f32, state.slot_stride()};
  const Rows values{state.x(layer, 0), DType::f32, step.stride};
  step.kernels.dot_rows(keys, slots, waiting, padded(step.slices[slice].count), r, scores);
  step.kernels.accumulate_rows(values, slots, scores, waiting, step.stride, a);
}

void attend(const Step& step, int64_t layer, int64_t sequence, int64_t i) {
  SequenceState& state = *step.batch.states[sequence];
  const Slice slice = step.slices[i];
  const int64_t unit = step.unit(sequence, i);
  float* n = step.neurons + unit * kSlice;
  float* r = state.r(layer, SequenceState::slot(state.position()), i);
  float* a = step.partial + unit * step.stride;

  step.kernels.dot_rows(from_row(step.packed.encoder, slice.row), nullptr, slice.count, step.stride,
                        step.batch.x + sequence * step.stride, n);
  std::fill(n + slice.count, n + padded(slice.count), 0.0f);
  step.kernels.rotate(n, step.packed.freqs.data() + slice.begin, slice.count,
                      static_cast<float>(state.position()), r);

  std::fill(a, a + step.stride, 0.0f);
  const bool s_is_empty = state.is_s_empty(i);
  if (state.is_turn(i)) {
    state.fold(layer, i);
  } else {
    recall_waiting(step, state, layer, i, r, a);
  }
  int32_t index[kSlice];
  float scale[kSlice];
  const int64_t active = s_is_empty ? 0 : compact(r, slice.count, index, scale);
  const Rows s{state.s(layer, slice.row), DType::f32, step.stride};
  step.kernels.accumulate_rows(s, index, scale, active, step.stride, a);
  step.activity[unit].pairs += count_active_pairs(n, slice.count);
}

void combine(const Step& step, int64_t sequence, int64_t head) {
  float* out = step.attended + (sequence * step.packed.dims.heads + head) * step.stride;
  const Rows parts{step.partial + step.unit(sequence, head * step.slices.per_head) * step.stride, DType::f32,
                   step.stride};
  std::fill(out, out + step.stride, 0.0f);
  step.kernels.accumulate_rows(parts, nullptr, nullptr, step.slices.per_head, step.stride, out);
  step.kernels.norm(out, step.packed.dims.width, step.stride, out);
}

void gate(const Step& step, int64_t sequence, int64_t i) {
  const Slice slice = step.slices[i];
  const int64_t unit = step.unit(sequence, i);
  float* mixed = step.partial + unit * step.stride;
  int32_t index[kSlice];
  float n[kSlice], v[kSlice];
  const int64_t active = compact(step.neurons + unit * kSlice, slice.count, index, n);
  const float* attended = step.attended + (sequence * step.packed.dims.heads + slice.head) * step.stride;
  step.kernels.dot_rows(from_row(step.packed.encoder_v, slice.row), index, active, step.stride, attended, v);

  int64_t gated = 0;
  for (int64_t j = 0; j < active; ++j) {
    const float g = v[j] > 0.0f ? n[j] * v[j] : 0.0f;
    index[gated] = index[j];
    n[gated] = g;
    gated += g != 0.0f;
  }
  std::fill(mixed, mixed + step.stride, 0.0f);
  step.kernels.accumulate_rows(from_row(step.packed.decoder, slice.row), index, n, gated, step.stride, mixed);
  step.activity[unit].n += active;
  step.activity[unit].g += gated;
}

void mix(const Step& step, int64_t sequence, float* mixed) {
  float* x = step.batch.x + sequence * step.stride;
  const Rows parts{step.partial + step.unit(sequence, 0) * step.stride, DType::f32, step.stride};
  std::fill(mixed, mixed + step.stride, 0.0f);
  step.kernels.accumulate_rows(parts, nullptr, nullptr, step.slices.count, step.stride, mixed);
  add_and_norm(step.kernels, step.packed, mixed, x);
}

void remember_x(const Step& step, int64_t layer) {
  for (size_t b = 0; b < step.batch.states.size(); ++b) {
    const SequenceState& state = *step.batch.states[b];
    std::memcpy(state.x(layer, SequenceState::slot(state.position())),
                step.batch.x + static_cast<int64_t>(b) * step.stride,
                static_cast<size_t>(step.stride) * sizeof(float));
  }
}

void add_activity(const Step& step, int64_t sequences, LayerActivity& total) {
  total.tokens += sequences;
  for (int64_t unit = 0; unit < sequences * step.slices.count; ++unit) {
    total.n += step.activity[unit].n;
    total.pairs += step.activity[unit].pairs;
    total.g += step.activity[unit].g;
    step.activity[unit] = {};
  }
}

}  // namespace

void read_step(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool, StepScratch& scratch,
               const StepBatch& batch, std::span<LayerActivity> activity) {
  const Slices slices(packed.dims);
  const auto sequences = static_cast<int64_t>(batch.states.size());
  scratch.activity.assign(static_cast<size_t>(sequences * slices.count), {});
  const Step step{kernels,
                  packed,
                  batch,
                  slices,
                  packed.stride,
                  scratch.attended.at_least(sequences * packed.dims.heads * packed.stride),
                  scratch.partial.at_least((sequences * slices.count + 1) * packed.stride),
                  scratch.neurons.at_least(sequences * slices.count * kSlice),
                  scratch.activity.data()};
  float* mixed = step.partial + sequences * slices.count * packed.stride;
  for (int64_t b = 0; b < sequences; ++b)
    embed_token(kernels, packed, batch.tokens[b], batch.x + b * packed.stride);
  for (int64_t layer = 0; layer < packed.dims.layers; ++layer) {
    remember_x(step, layer);
    pool.run(slices.count, [&](int64_t i, int) {
      for (int64_t b = 0; b < sequences; ++b) attend(step, layer, b, i);
    });
    for (int64_t b = 0; b < sequences; ++b) {
      for (int64_t head = 0; head < packed.dims.heads; ++head) combine(step, b, head);
    }
    pool.run(slices.count, [&](int64_t i, int) {
      for (int64_t b = 0; b < sequences; ++b) gate(step, b, i);
    });
    for (int64_t b = 0; b < sequences; ++b) mix(step, b, mixed);
    if (!activity.empty()) add_activity(step, sequences, activity[layer]);
  }
  for (SequenceState* state : batch.states) state->advance();
}

}  // namespace bdh::cpu
