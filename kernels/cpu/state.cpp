// The state's memory, and the flushing of pending tokens into it.
#include "kernels/cpu/state.h"

#include <algorithm>
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

size_t s_bytes(const Dimensions& dims, DType dtype) {
  return static_cast<size_t>(dims.layers * dims.heads * dims.neurons * padded(dims.width)) * size_of(dtype);
}

template <class Number>
Tensor tensor_of(DType dtype, const std::vector<Number>& numbers) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(dtype, {static_cast<int64_t>(numbers.size())}, &data);
  if (!numbers.empty()) std::memcpy(data, numbers.data(), numbers.size() * sizeof(Number));
  return tensor;
}

// The neurons of a tile that are active in r, and their r.
void append_active(const float* r, const NeuronTile& tile, std::vector<int32_t>& neurons,
                   std::vector<float>& values) {
  for (int64_t i = 0; i < tile.count; ++i) {
    if (r[i] == 0.0f) continue;
    neurons.push_back(static_cast<int32_t>(tile.row + i));
    values.push_back(r[i]);
  }
}

// A tensor's bytes where its numbers may be read as numbers: mapped files are not always aligned.
Tensor aligned(const Tensor& tensor) {
  if (reinterpret_cast<uintptr_t>(tensor.data) % alignof(int64_t) == 0) return tensor;
  std::byte* data = nullptr;
  Tensor copy = make_tensor(tensor.dtype, tensor.shape, &data);
  std::memcpy(data, tensor.data, tensor.bytes());
  return copy;
}

SavedState aligned(const SavedState& saved) {
  const KeptTokens& tokens = saved.tokens;
  return {saved.position,
          aligned(saved.s),
          aligned(saved.held),
          saved.base,
          {aligned(tokens.begin), aligned(tokens.neuron), aligned(tokens.r), aligned(tokens.x)}};
}

}  // namespace

SequenceState::SequenceState(const Dimensions& dims, const Kernels& kernels, const StateOptions& options)
    : dims_(dims),
      kernels_(kernels),
      tiles_(dims),
      rows_(dims.heads * dims.neurons),
      stride_(padded(dims.width)),
      horizons_(options.horizons.begin(), options.horizons.end()),
      s_dtype_(options.s) {
  if (s_dtype_ != DType::f32 && s_dtype_ != DType::bf16)
    fail(ErrorKind::unsupported, "the CPU backend keeps a session's state as F32 or BF16, not as ",
         name_of(s_dtype_));
  for (const float horizon : horizons_) {
    for (int64_t distance = 0; distance <= kWindow; ++distance)
      weights_.push_back(weight_after(distance, horizon));
  }
  s_ = allocate_zeroed(s_bytes(dims, s_dtype_), "a session's state");
  r_ = floats(dims.layers * kSlots * slot_stride(), "a session's window");
  x_ = floats(dims.layers * kSlots * stride_, "a session's window");
}

size_t SequenceState::bytes_for(const Dimensions& dims, DType s) {
  const int64_t slot_stride = NeuronTiles(dims).count * kTileNeurons;
  const int64_t window = dims.layers * kSlots * (slot_stride + padded(dims.width));
  return s_bytes(dims, s) + static_cast<size_t>(window) * sizeof(float);
}

std::unique_ptr<State> SequenceState::clone() const {
  auto copy = std::make_unique<SequenceState>(dims_, kernels_, StateOptions{horizons_, s_dtype_});
  std::memcpy(copy->s_.get(), s_.get(), s_bytes(dims_, s_dtype_));
  std::memcpy(copy->r_.get(), r_.get(),
              static_cast<size_t>(dims_.layers * kSlots * slot_stride()) * sizeof(float));
  std::memcpy(copy->x_.get(), x_.get(), static_cast<size_t>(dims_.layers * kSlots * stride_) * sizeof(float));
  copy->position_ = position_;
  copy->flushed_ = flushed_;
  return copy;
}

int64_t SequenceState::first_pending(int64_t tile, int64_t position, int64_t flushed) {
  const int64_t since_flush = (position + tile) % kWindow;
  const int64_t pending = since_flush == 0 ? kWindow : since_flush;
  return std::max(flushed, position - pending);
}

// What a flush adds to a row, and what is left of it: row by row, in the order of memory, S is read and
// written once while the window's x stay in the first cache.
struct SequenceState::Flush {
  int32_t slots[kWindow];
  float worth[kWindow];
  int64_t pending;
  float left;

  Flush(const SequenceState& state, int64_t tile, int64_t position)
      : pending(state.pending_slots(tile, position, slots)), left(state.weight(tile, pending)) {
    for (int64_t i = 0; i < pending; ++i) worth[i] = state.weight(tile, pending - i);
  }

  // The pending tokens in which a neuron is active.
  struct Active {
    int32_t slots[kWindow];
    float scale[kWindow];
    int64_t count = 0;
  };

  Active active(const SequenceState& state, int64_t layer, int64_t tile, int64_t neuron) const {
    Active some;
    for (int64_t i = 0; i < pending; ++i) {
      const float r = state.r(layer, slots[i], tile)[neuron];
      some.slots[some.count] = slots[i];
      some.scale[some.count] = r * worth[i];
      some.count += r != 0.0f;
    }
    return some;
  }
  bool changes(const Active& some) const { return some.count > 0 || left != 1.0f; }

  void apply(const SequenceState& state, int64_t layer, const Active& some, float* row) const {
    if (left != 1.0f) state.kernels_.decay(row, state.stride_, left);
    state.kernels_.accumulate_rows({state.x(layer, 0), DType::f32, state.stride_}, some.slots, some.scale,
                                   some.count, state.stride_, row);
  }
};

float* SequenceState::open_s(int64_t layer, int64_t row, int64_t count, float* space) const {
  std::byte* rows = s_at(layer * rows_ + row);
  if (s_dtype_ == DType::f32) return reinterpret_cast<float*>(rows);
  kernels_.widen(rows, s_dtype_, count * stride_, space);
  return space;
}

void SequenceState::keep_s(int64_t layer, int64_t row, int64_t count, const float* rows) const {
  if (s_dtype_ == DType::f32) return;
  kernels_.narrow(rows, count * stride_, reinterpret_cast<uint16_t*>(s_at(layer * rows_ + row)));
}

void SequenceState::flush(int64_t layer, int64_t tile, int64_t position) {
  const Flush flush(*this, tile, position);
  const NeuronTile part = tiles_[tile];
  std::vector<float> space(s_dtype_ == DType::f32 ? 0 : static_cast<size_t>(stride_));
  for (int64_t neuron = 0; neuron < part.count && flush.pending > 0; ++neuron) {
    const Flush::Active some = flush.active(*this, layer, tile, neuron);
    if (!flush.changes(some)) continue;
    float* row = open_s(layer, part.row + neuron, 1, space.data());
    flush.apply(*this, layer, some, row);
    keep_s(layer, part.row + neuron, 1, row);
  }
}

void SequenceState::flushed_rows(int64_t layer, int64_t tile, int64_t position, const int32_t* neurons,
                                 int64_t count, float* rows) const {
  const Flush flush(*this, tile, position);
  const NeuronTile part = tiles_[tile];
  std::vector<uint16_t> rounded(s_dtype_ == DType::f32 ? 0 : static_cast<size_t>(stride_));
  for (int64_t i = 0; i < count; ++i) {
    float* row = rows + neurons[i] * stride_;
    kernels_.widen(s_at(layer * rows_ + part.row + neurons[i]), s_dtype_, stride_, row);
    const Flush::Active some = flush.active(*this, layer, tile, neurons[i]);
    if (!flush.changes(some)) continue;
    flush.apply(*this, layer, some, row);
    if (s_dtype_ == DType::f32) continue;
    kernels_.narrow(row, stride_, rounded.data());
    kernels_.widen(rounded.data(), s_dtype_, stride_, row);
  }
}

void SequenceState::check_accepted(int64_t tokens) const {
  if (tokens < 0 || tokens > provisional_) {
    fail(ErrorKind::invalid_argument, "accept: ", tokens, " tokens, where ", provisional_,
         " were read provisionally");
  }
}

void SequenceState::flush_accepted(int64_t tile, int64_t tokens) {
  const int64_t due = last_flush(tile, position_ + tokens - 1);
  for (int64_t layer = 0; layer < dims_.layers && tokens > 0 && due >= position_; ++layer)
    flush(layer, tile, due);
}

int64_t SequenceState::pending_slots(int64_t tile, int64_t position, int32_t* slots) const {
  const int64_t first = first_pending(tile, position);
  for (int64_t t = first; t < position; ++t) slots[t - first] = static_cast<int32_t>(slot(t));
  return position - first;
}

void SequenceState::advance_flushed(int64_t tokens) {
  provisional_ = 0;
  position_ += tokens;
  flushed_ = position_;
}

// The tokens from `first` on, whose r and x are in their slots.
KeptTokens SequenceState::window(int64_t first) const {
  const int64_t count = position_ - first, width = dims_.width;
  if (count == 0) return {};
  std::byte *begin_data = nullptr, *x_data = nullptr;
  KeptTokens kept{make_tensor(DType::i64, {dims_.layers, count + 1}, &begin_data),
                  {},
                  {},
                  make_tensor(DType::f32, {dims_.layers, count, width}, &x_data)};
  auto* begin = reinterpret_cast<int64_t*>(begin_data);
  auto* to = reinterpret_cast<float*>(x_data);
  std::vector<int32_t> neurons;
  std::vector<float> values;
  for (int64_t layer = 0; layer < dims_.layers; ++layer) {
    *begin++ = static_cast<int64_t>(values.size());
    for (int64_t t = first; t < position_; ++t, to += width) {
      for (int64_t i = 0; i < tiles_.count; ++i)
        append_active(r(layer, slot(t), i), tiles_[i], neurons, values);
      *begin++ = static_cast<int64_t>(values.size());
      std::copy_n(x(layer, slot(t)), width, to);
    }
  }
  kept.neuron = tensor_of(DType::i32, neurons);
  kept.r = tensor_of(DType::f32, values);
  return kept;
}

KeptTokens SequenceState::last_tokens(int64_t count) const {
  if (count > position_ - first_pending(0))
    fail(ErrorKind::unsupported, "what the last ", count, " tokens left is part of S already");
  return window(position_ - count);
}

SavedState SequenceState::save() const {
  const auto [layers, width, heads, neurons, vocab, sets] = dims_;
  SavedState saved;
  saved.position = saved.base = position_;
  std::byte* data = nullptr;
  saved.held = make_tensor(DType::i64, {heads, neurons}, &data);
  auto* held = reinterpret_cast<int64_t*>(data);
  int64_t first = position_;
  for (int64_t i = 0; i < tiles_.count; ++i) {
    std::fill_n(held + tiles_[i].row, tiles_[i].count, first_pending(i));
    first = std::min(first, first_pending(i));
  }
  saved.tokens = window(first);
  if (*std::max_element(held, held + rows_) == 0) return saved;
  saved.s = make_tensor(DType::f32, {layers, heads, neurons, width}, &data);
  auto* rows = reinterpret_cast<float*>(data);
  for (int64_t i = 0; i < layers * rows_; ++i)
    convert(s_dtype_, s_at(i), DType::f32, rows + i * width, static_cast<size_t>(width));
  return saved;
}

// Whether rows are held as this state's own schedule would have them.
bool SequenceState::is_own(const SavedState& saved) const {
  if (!saved.held.data || (saved.s.data && saved.s.dtype != DType::f32 && saved.s.dtype != s_dtype_))
    return false;
  const auto* held = reinterpret_cast<const int64_t*>(saved.held.data);
  const int64_t flushed = *std::min_element(held, held + rows_);
  if (saved.tokens.count() != saved.position - flushed) return false;
  for (int64_t i = 0; i < tiles_.count; ++i) {
    const NeuronTile tile = tiles_[i];
    const int64_t first = first_pending(i, saved.position, flushed);
    const auto same = [&](int64_t position) { return position == first; };
    if (!std::all_of(held + tile.row, held + tile.row + tile.count, same)) return false;
  }
  return true;
}

void SequenceState::take_window(const KeptTokens& tokens) {
  const int64_t count = tokens.count();
  if (count == 0) return;
  const auto* begin = reinterpret_cast<const int64_t*>(tokens.begin.data);
  const auto* neuron = reinterpret_cast<const int32_t*>(tokens.neuron.data);
  const auto* values = reinterpret_cast<const float*>(tokens.r.data);
  const auto* from = reinterpret_cast<const float*>(tokens.x.data);
  for (int64_t layer = 0; layer < dims_.layers; ++layer, ++begin) {
    for (int64_t t = position_ - count; t < position_; ++t, ++begin, from += dims_.width) {
      float* to = r(layer, slot(t), 0);
      std::fill_n(to, slot_stride(), 0.0f);
      for (int64_t i = begin[0]; i < begin[1]; ++i) to[tiles_.place(neuron[i])] = values[i];
      std::copy_n(from, dims_.width, x(layer, slot(t)));
    }
  }
}

// (L, H, N, D) float32 or bfloat16; without data S is zero, as a row's padding always is.
void SequenceState::take_s(const Tensor& from) {
  if (!from.data) {
    std::memset(s_.get(), 0, s_bytes(dims_, s_dtype_));
    return;
  }
  const auto width = static_cast<size_t>(dims_.width);
  for (int64_t i = 0; i < dims_.layers * rows_; ++i)
    convert(from.dtype, from.data + static_cast<size_t>(i) * width * size_of(from.dtype), s_dtype_, s_at(i),
            width);
}

void SequenceState::restore(const SavedState& saved) {
  check(saved, dims_);
  restore_aligned(aligned(saved));
}

void SequenceState::restore_aligned(const SavedState& saved) {
  const bool own = saved.position > 0 && is_own(saved);
  take_s(saved.position == 0 ? Tensor{} : own ? saved.s : folded(saved, dims_, horizons_));
  position_ = flushed_ = saved.position;
  provisional_ = 0;
  if (!own) return;
  const auto* held = reinterpret_cast<const int64_t*>(saved.held.data);
  flushed_ = *std::min_element(held, held + rows_);
  take_window(saved.tokens);
}

}  // namespace bdh::cpu
