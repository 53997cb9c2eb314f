// The state's memory, and the flushing of pending tokens into it.
#include "kernels/cpu/state.h"

#include <cstring>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "kernels/horizon.h"

namespace bdh::cpu {

namespace {

std::shared_ptr<float> floats(int64_t count, const char* what) {
  const std::shared_ptr<std::byte> memory = allocate_zeroed(static_cast<size_t>(count) * sizeof(float), what);
  return {memory, reinterpret_cast<float*>(memory.get())};
}

}  // namespace

SequenceState::SequenceState(const Dimensions& dims, const Kernels& kernels, std::span<const float> horizons)
    : dims_(dims),
      kernels_(kernels),
      tiles_(dims),
      rows_(dims.heads * dims.neurons),
      stride_(padded(dims.width)),
      horizons_(horizons.begin(), horizons.end()) {
  for (const float horizon : horizons_) {
    for (int64_t distance = 0; distance <= kWindow; ++distance)
      weights_.push_back(weight_after(distance, horizon));
  }
  s_ = floats(dims.layers * rows_ * stride_, "a session's state");
  r_ = floats(dims.layers * kSlots * slot_stride(), "a session's window");
  x_ = floats(dims.layers * kSlots * stride_, "a session's window");
}

size_t SequenceState::bytes_for(const Dimensions& dims) {
  const int64_t stride = padded(dims.width), slot_stride = NeuronTiles(dims).count * kTileNeurons;
  const int64_t per_layer = dims.heads * dims.neurons * stride + kSlots * (slot_stride + stride);
  return static_cast<size_t>(dims.layers * per_layer) * sizeof(float);
}

std::unique_ptr<State> SequenceState::clone() const {
  auto copy = std::make_unique<SequenceState>(dims_, kernels_, horizons_);
  std::memcpy(copy->s_.get(), s_.get(), static_cast<size_t>(dims_.layers * rows_ * stride_) * sizeof(float));
  std::memcpy(copy->r_.get(), r_.get(),
              static_cast<size_t>(dims_.layers * kSlots * slot_stride()) * sizeof(float));
  std::memcpy(copy->x_.get(), x_.get(), static_cast<size_t>(dims_.layers * kSlots * stride_) * sizeof(float));
  copy->position_ = position_;
  copy->flushed_ = flushed_;
  return copy;
}

int64_t SequenceState::first_pending(int64_t tile) const {
  const int64_t since_flush = (position_ + tile) % kWindow;
  const int64_t pending = since_flush == 0 ? kWindow : since_flush;
  return std::max(flushed_, position_ - pending);
}

// Row by row, in the order of memory: S is read and written once, the window's x stay in the first cache.
void SequenceState::flush(int64_t layer, int64_t tile) {
  int32_t slots[kWindow];
  float scale[kWindow], worth[kWindow];
  const int64_t pending = pending_slots(tile, slots);
  for (int64_t i = 0; i < pending; ++i) worth[i] = weight(tile, pending - i);
  const float left = weight(tile, pending);
  const Rows values{x(layer, 0), DType::f32, stride_};
  const NeuronTile part = tiles_[tile];
  for (int64_t neuron = 0; neuron < part.count && pending > 0; ++neuron) {
    float* row = s(layer, part.row + neuron);
    for (int64_t i = 0; i < pending; ++i) scale[i] = r(layer, slots[i], tile)[neuron] * worth[i];
    if (left != 1.0f) kernels_.decay(row, stride_, left);
    kernels_.accumulate_rows(values, slots, scale, pending, stride_, row);
  }
}

int64_t SequenceState::pending_slots(int64_t tile, int32_t* slots) const {
  const int64_t first = first_pending(tile);
  for (int64_t t = first; t < position_; ++t) slots[t - first] = static_cast<int32_t>(slot(t));
  return position_ - first;
}

void SequenceState::advance_flushed(int64_t tokens) {
  position_ += tokens;
  flushed_ = position_;
}

Tensor SequenceState::save() {
  for (int64_t layer = 0; layer < dims_.layers; ++layer) {
    for (int64_t tile = 0; tile < tiles_.count; ++tile) flush(layer, tile);
  }
  flushed_ = position_;
  std::byte* data = nullptr;
  const auto [layers, width, heads, neurons, vocab, sets] = dims_;
  Tensor out = make_tensor(DType::f32, {layers, heads, neurons, width}, &data);
  const size_t row_bytes = static_cast<size_t>(width) * sizeof(float);
  for (int64_t i = 0; i < layers * rows_; ++i) {
    std::memcpy(data + static_cast<size_t>(i) * row_bytes, s_.get() + i * stride_, row_bytes);
  }
  return out;
}

void SequenceState::restore(const Tensor& saved, int64_t position) {
  const auto [layers, width, heads, neurons, vocab, sets] = dims_;
  const Shape expected{layers, heads, neurons, width};
  if (saved.dtype != DType::f32 || saved.shape != expected || !saved.contiguous()) {
    fail(ErrorKind::invalid_argument, "state: expected F32 ", to_string(expected), ", found ",
         name_of(saved.dtype), " ", to_string(saved.shape));
  }
  if (position < 0) fail(ErrorKind::invalid_argument, "state: position ", position, " is negative");
  const size_t row_bytes = static_cast<size_t>(width) * sizeof(float);
  for (int64_t i = 0; i < layers * rows_; ++i) {
    float* row = s_.get() + i * stride_;
    if (position == 0) {
      std::fill_n(row, width, 0.0f);
    } else {
      std::memcpy(row, saved.data + static_cast<size_t>(i) * row_bytes, row_bytes);
    }
  }
  position_ = flushed_ = position;
}

}  // namespace bdh::cpu
