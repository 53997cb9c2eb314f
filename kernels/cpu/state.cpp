// The state's memory, and the flushing of pending tokens into it.
#include "kernels/cpu/state.h"

#include <algorithm>
#include <cstring>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "kernels/horizon.h"

namespace bdh::cpu {

namespace {

constexpr int64_t kRowsTogether = 16;  // of S

std::shared_ptr<float> floats(int64_t count, const char* what) {
  const std::shared_ptr<std::byte> memory = allocate_zeroed(static_cast<size_t>(count) * sizeof(float), what);
  return {memory, reinterpret_cast<float*>(memory.get())};
}

size_t s_bytes(const Dimensions& dims, DType dtype) {
  return static_cast<size_t>(dims.layers * dims.heads * dims.neurons * padded(dims.width)) * size_of(dtype);
}

// Tokens that are read in columns before S is made of them: up to half the length of a row of S, where
// columns are still the less to read, and few beside the neurons, so that their x take little memory.
int64_t columns_for(const Dimensions& dims) {
  const int64_t most = std::min(padded(dims.width) / 2, dims.heads * dims.neurons / 8);
  const int64_t block = std::min(kColumnBlock, most / kPadding * kPadding);
  return block == 0 ? 0 : most / block * block;
}

// Tiles that are flushed at the same token, one after the other.
std::vector<int64_t> places_of(const NeuronTiles& tiles, int64_t layers) {
  std::vector<int64_t> places(static_cast<size_t>(layers * tiles.count));
  int64_t neurons = 0;
  for (int64_t turn = 0; turn < kWindow; ++turn) {
    for (int64_t layer = 0; layer < layers; ++layer) {
      for (int64_t tile = turn; tile < tiles.count; tile += kWindow) {
        places[layer * tiles.count + tile] = neurons;
        neurons += tiles[tile].count;
      }
    }
  }
  return places;
}

}  // namespace

SequenceState::SequenceState(const Dimensions& dims, const Kernels& kernels, const StateOptions& options)
    : dims_(dims),
      kernels_(kernels),
      tiles_(dims),
      rows_(dims.heads * dims.neurons),
      turns_(std::min(kWindow, tiles_.count)),
      places_(places_of(tiles_, dims.layers)),
      stride_(padded(dims.width)),
      column_block_(std::min(kColumnBlock, columns_for(dims))),
      columns_(columns_for(dims)),
      horizons_(options.horizons.begin(), options.horizons.end()),
      s_dtype_(options.s) {
  if (s_dtype_ != DType::f32 && s_dtype_ != DType::bf16)
    fail(ErrorKind::unsupported, "the CPU backend keeps a session's state as F32 or BF16, not as ",
         name_of(s_dtype_));
  for (const float horizon : horizons_) {
    for (int64_t distance = 0; distance <= most_distance(); ++distance)
      weights_.push_back(weight_after(distance, horizon));
  }
  s_ = allocate_zeroed(s_bytes(dims, s_dtype_), "a session's state");
  r_ = floats(dims.layers * kSlots * slot_stride(), "a session's window");
  x_ = floats(dims.layers * kSlots * stride_, "a session's window");
  r_of_tokens_ = floats(columns_ * dims.layers * rows_, "a session's first tokens");
  x_of_tokens_ = floats(dims.layers * (columns_ + kSlots) * stride_, "a session's first tokens");
}

size_t SequenceState::bytes_for(const Dimensions& dims, DType s) {
  const int64_t slot_stride = NeuronTiles(dims).count * kTileNeurons, stride = padded(dims.width);
  const int64_t window = dims.layers * kSlots * (slot_stride + stride);
  const int64_t first_tokens = dims.layers * (columns_for(dims) + kSlots) * stride;
  return s_bytes(dims, s) + static_cast<size_t>(window + first_tokens) * sizeof(float);
}

void SequenceState::copy(const State& other) {
  const auto& from = static_cast<const SequenceState&>(other);
  const auto copy_floats = [](const std::shared_ptr<float>& source, const std::shared_ptr<float>& to,
                              int64_t count) {
    std::memcpy(to.get(), source.get(), static_cast<size_t>(count) * sizeof(float));
  };
  begin_ = from.begin_;
  position_ = from.position_;
  provisional_ = 0;
  flushed_ = from.flushed_;
  if (from.has_s()) std::memcpy(s_.get(), from.s_.get(), s_bytes(dims_, s_dtype_));
  copy_columns(from);
  release_unused();
  copy_floats(from.x_of_tokens_, x_of_tokens_, dims_.layers * (columns_ + kSlots) * stride_);
  copy_floats(from.r_, r_, dims_.layers * kSlots * slot_stride());
  copy_floats(from.x_, x_, dims_.layers * kSlots * stride_);
}

// Those that are in use alone.
void SequenceState::copy_columns(const SequenceState& from) {
  for (int64_t tile = 0; tile < tiles_.count; ++tile) {
    if (!from.has_columns(tile)) continue;
    const int64_t tokens = from.first_pending(tile) - begin_;
    for (int64_t b = 0; b * column_block_ < tokens; ++b) {
      for (int64_t layer = 0; layer < dims_.layers; ++layer)
        std::copy_n(from.block_of_columns(layer, b, tile), tiles_[tile].count * column_block_,
                    block_of_columns(layer, b, tile));
    }
  }
}

// A bit for each turn whose tiles have columns; tiles of one turn always have the same form.
uint32_t SequenceState::turns_with_columns() const {
  uint32_t turns = 0;
  for (int64_t turn = 0; turn < turns_; ++turn) turns |= has_columns(turn) ? 1U << turn : 0U;
  return turns;
}

void SequenceState::move_to(int64_t position, int64_t flushed) {
  const uint32_t had = turns_with_columns();
  position_ = position;
  flushed_ = flushed;
  if (const uint32_t gone = had & ~turns_with_columns()) release_columns(gone);
}

// By turns rather than tiles, and at once where there are none left: each call flushes every processor's TLB.
void SequenceState::release_columns(uint32_t turns) const {
  const int64_t in_block = dims_.layers * rows_ * column_block_;
  const auto release = [&](int64_t begin, int64_t end) {
    release_pages(std::as_bytes(std::span(r_of_tokens_.get() + begin, r_of_tokens_.get() + end)));
  };
  if (!has_columns()) return release(0, dims_.layers * rows_ * columns_);
  for (int64_t turn = 0; turn < turns_; ++turn) {
    if ((turns >> turn & 1) == 0) continue;
    const int64_t begin = place(0, turn) * column_block_;
    const int64_t end = turn + 1 < turns_ ? place(0, turn + 1) * column_block_ : in_block;
    for (int64_t b = 0; b * column_block_ < columns_; ++b) release(b * in_block + begin, b * in_block + end);
  }
}

// After any change: the memory of the form that a tile does not have.
void SequenceState::release_unused() const {
  release_columns(~turns_with_columns());
  if (!has_s()) release_pages({s_.get(), s_bytes(dims_, s_dtype_)});
}

int64_t SequenceState::first_pending(int64_t tile, int64_t position, int64_t flushed) {
  const int64_t since_flush = (position + tile) % kWindow;
  const int64_t pending = since_flush == 0 ? kWindow : since_flush;
  return std::max(flushed, position - pending);
}

// A tile's pending tokens, as they are flushed at that position.
struct SequenceState::Pending {
  int32_t slots[kWindow];
  float worth[kWindow];
  PendingTokens tokens;

  Pending(const SequenceState& state, int64_t layer, int64_t tile, int64_t position)
      : tokens{state.pending_slots(tile, position, slots),
               slots,
               state.r(layer, 0, tile),
               state.x(layer, 0),
               state.slot_stride(),
               state.stride_,
               worth,
               1.0f} {
    for (int64_t i = 0; i < tokens.count; ++i) worth[i] = state.weight(tile, tokens.count - i);
    tokens.left = state.weight(tile, tokens.count);
  }

  // As they are for the tile's neurons from `neuron` on.
  PendingTokens from(int64_t neuron) const {
    PendingTokens some = tokens;
    some.r += neuron;
    return some;
  }
};

float* SequenceState::open_s(int64_t layer, int64_t tile, int64_t neuron, int64_t count, float* space) const {
  std::byte* rows = s_at(layer, tile, neuron);
  if (s_dtype_ == DType::f32) return reinterpret_cast<float*>(rows);
  kernels_.widen(rows, s_dtype_, count * stride_, space);
  return space;
}

void SequenceState::keep_s(int64_t layer, int64_t tile, int64_t neuron, int64_t count,
                           const float* rows) const {
  if (s_dtype_ == DType::f32) return;
  kernels_.narrow(rows, count * stride_, reinterpret_cast<uint16_t*>(s_at(layer, tile, neuron)));
}

void SequenceState::flush(int64_t layer, int64_t tile, int64_t position) {
  if (are_columns(position)) return flush_to_columns(layer, tile, position);
  const int64_t held = first_pending(tile, position);
  if (are_columns(held)) to_s(layer, tile, held);
  flush_to_s(layer, tile, position);
}

void SequenceState::flush_to_s(int64_t layer, int64_t tile, int64_t position) {
  const Pending pending(*this, layer, tile, position);
  if (pending.tokens.count > 0)
    kernels_.flush(s_at(layer, tile, 0), s_dtype_, tiles_[tile].count, stride_, pending.tokens);
}

void SequenceState::flush_to_columns(int64_t layer, int64_t tile, int64_t position) {
  for (int64_t neuron = 0; neuron < tiles_[tile].count; neuron += kRowsTogether) {
    for (int64_t t = first_pending(tile, position); t < position; ++t)
      slot_to_column(layer, tile, t, neuron, std::min(kRowsTogether, tiles_[tile].count - neuron));
  }
}

// Of the tile's neurons from `neuron` on.
void SequenceState::slot_to_column(int64_t layer, int64_t tile, int64_t position, int64_t neuron,
                                   int64_t count) const {
  const float* from = r(layer, slot(position), tile) + neuron;
  float* to = column_of(layer, tile, position) + neuron * column_block_;
  for (int64_t i = 0; i < count; ++i) to[i * column_block_] = from[i];
}

void SequenceState::keep_columns(int64_t layer, int64_t tile, int64_t neuron, int64_t count, int64_t tokens,
                                 const float* r, int64_t r_stride) const {
  for (int64_t t = 0; t < tokens; ++t) {
    float* to = column_of(layer, tile, position_ + t) + neuron * column_block_;
    for (int64_t i = 0; i < count; ++i) to[i * column_block_] = r[i * r_stride + t];
  }
}

// Rows (count, stride) of S as of `held`, of the tile's neurons from `neuron` on.
void SequenceState::sum_columns(int64_t layer, int64_t tile, int64_t held, int64_t neuron, int64_t count,
                                float* rows) const {
  const int64_t tokens = held - begin_;
  float weighed[kRowsTogether * kColumnBlock];
  std::fill_n(rows, count * stride_, 0.0f);
  for (int64_t begin = 0; begin < tokens; begin += column_block_) {
    const int64_t some = std::min(column_block_, tokens - begin);
    const float* from = block_of_columns(layer, begin / column_block_, tile) + neuron * column_block_;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t t = 0; t < some; ++t)
        weighed[i * column_block_ + t] = from[i * column_block_ + t] * weight(tile, tokens - begin - t);
    }
    const Rows x{x_of_tokens(layer) + begin * stride_, DType::f32, stride_};
    kernels_.add_sparse({count, stride_, some, weighed, column_block_, 1, x, rows, stride_, true});
  }
}

void SequenceState::to_s(int64_t layer, int64_t tile, int64_t held) {
  const int64_t neurons = tiles_[tile].count;
  std::vector<float> space(s_dtype_ == DType::f32 ? 0 : static_cast<size_t>(kRowsTogether * stride_));
  for (int64_t neuron = 0; neuron < neurons; neuron += kRowsTogether) {
    const int64_t count = std::min(kRowsTogether, neurons - neuron);
    float* rows = open_s(layer, tile, neuron, count, space.data());
    sum_columns(layer, tile, held, neuron, count, rows);
    keep_s(layer, tile, neuron, count, rows);
  }
}

void SequenceState::flush_before(int64_t layer, int64_t tile, int64_t tokens) {
  flush(layer, tile, position_);
  if (are_columns(position_) && !keeps_columns(tokens) && !is_new()) to_s(layer, tile, position_);
}

void SequenceState::keep_x(int64_t layer, int64_t position, const float* x) {
  std::copy_n(x, stride_, this->x(layer, slot(position)));
  if (begin_ >= 0 && position - begin_ < columns_ + kSlots)
    std::copy_n(x, stride_, x_of_token(layer, position));
}

void SequenceState::flushed_rows(int64_t layer, int64_t tile, int64_t position, const int32_t* neurons,
                                 int64_t count, float* rows) const {
  const Pending pending(*this, layer, tile, position);
  const int64_t held = first_pending(tile, position);
  std::vector<uint16_t> rounded(s_dtype_ == DType::f32 ? 0 : static_cast<size_t>(stride_));
  for (int64_t i = 0; i < count; ++i) {
    float* row = rows + neurons[i] * stride_;
    if (are_columns(held)) {
      sum_columns(layer, tile, held, neurons[i], 1, row);
      round_as_s(row, rounded.data());
    } else {
      kernels_.widen(s_at(layer, tile, neurons[i]), s_dtype_, stride_, row);
    }
    kernels_.flush(row, DType::f32, 1, stride_, pending.from(neurons[i]));
    round_as_s(row, rounded.data());
  }
}

// space: stride numbers, where S is bfloat16.
void SequenceState::round_as_s(float* row, uint16_t* space) const {
  if (s_dtype_ == DType::f32) return;
  kernels_.narrow(row, stride_, space);
  kernels_.widen(space, s_dtype_, stride_, row);
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
  move_to(position_ + tokens, position_ + tokens);
}

}  // namespace bdh::cpu
