// What a state remembers, as a file keeps it, and back.
#include <algorithm>
#include <cstring>

#include "bdh/base/error.h"
#include "kernels/cpu/state.h"

namespace bdh::cpu {

namespace {

template <class Number>
Tensor tensor_of(DType dtype, const std::vector<Number>& numbers) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(dtype, {static_cast<int64_t>(numbers.size())}, &data);
  if (!numbers.empty()) std::memcpy(data, numbers.data(), numbers.size() * sizeof(Number));
  return tensor;
}

// The neurons of a tile that are active in r, which may be null, and their r.
void append_active(const float* r, const NeuronTile& tile, std::vector<int32_t>& neurons,
                   std::vector<float>& values) {
  for (int64_t i = 0; r && i < tile.count; ++i) {
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
          saved.first,
          {aligned(tokens.begin), aligned(tokens.neuron), aligned(tokens.r), aligned(tokens.x)}};
}

}  // namespace

// r of a token in a tile: in its slot, or in its column; null where it is part of S alone.
const float* SequenceState::r_of(int64_t layer, int64_t tile, int64_t position, float* space) const {
  if (!has_columns(tile) || position >= first_pending(tile)) {
    return position >= std::max(flushed_, position_ - kWindow) ? r(layer, slot(position), tile) : nullptr;
  }
  const float* from = column_of(layer, tile, position);
  for (int64_t i = 0; i < tiles_[tile].count; ++i) space[i] = from[i * column_block_];
  return space;
}

// The tokens from `first` on, which slots or columns hold.
KeptTokens SequenceState::kept_from(int64_t first) const {
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
  float space[kTileNeurons];
  const bool columns = has_columns();
  for (int64_t layer = 0; layer < dims_.layers; ++layer) {
    *begin++ = static_cast<int64_t>(values.size());
    for (int64_t t = first; t < position_; ++t, to += width) {
      for (int64_t i = 0; i < tiles_.count; ++i)
        append_active(r_of(layer, i, t, space), tiles_[i], neurons, values);
      *begin++ = static_cast<int64_t>(values.size());
      std::copy_n(columns ? x_of_token(layer, t) : x(layer, slot(t)), width, to);
    }
  }
  kept.neuron = tensor_of(DType::i32, neurons);
  kept.r = tensor_of(DType::f32, values);
  return kept;
}

KeptTokens SequenceState::last_tokens(int64_t count) const {
  if (count > position_ - (has_s() ? first_pending(0) : begin_))
    fail(ErrorKind::unsupported, "what the last ", count, " tokens left is part of S already");
  return kept_from(position_ - count);
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
  if (has_columns()) saved.first = first = begin_;
  saved.tokens = kept_from(first);
  if (!has_s()) return saved;
  saved.s = make_tensor(DType::f32, {layers, heads, neurons, width}, &data);
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (int64_t i = 0; i < tiles_.count; ++i)
      save_s(layer, i, reinterpret_cast<float*>(data) + (layer * rows_ + tiles_[i].row) * width);
  }
  return saved;
}

// Rows (count, D) of a tile as of its last flush.
void SequenceState::save_s(int64_t layer, int64_t tile, float* to) const {
  const NeuronTile part = tiles_[tile];
  std::vector<float> row(static_cast<size_t>(stride_));
  for (int64_t i = 0; i < part.count; ++i, to += dims_.width) {
    if (has_columns(tile)) {
      sum_columns(layer, tile, first_pending(tile), i, 1, row.data());
    } else {
      kernels_.widen(s_at(layer, tile, i), s_dtype_, stride_, row.data());
    }
    std::copy_n(row.data(), dims_.width, to);
  }
}

// Whether rows are held as this state's own schedule would have them.
bool SequenceState::is_own(const SavedState& saved) const {
  if (!saved.held.data || (saved.s.data && saved.s.dtype != DType::f32 && saved.s.dtype != s_dtype_))
    return false;
  const auto* held = reinterpret_cast<const int64_t*>(saved.held.data);
  const int64_t flushed = *std::min_element(held, held + rows_);
  const int64_t count = saved.tokens.count(), begin = begin_of(saved);
  if (begin < 0 ? count != saved.position - flushed : count > columns_ + kWindow) return false;
  for (int64_t i = 0; i < tiles_.count; ++i) {
    const NeuronTile tile = tiles_[i];
    const int64_t first = first_pending(i, saved.position, flushed);
    if (!saved.s.data && first - begin > columns_) return false;
    const auto same = [&](int64_t position) { return position == first; };
    if (!std::all_of(held + tile.row, held + tile.row + tile.count, same)) return false;
  }
  return true;
}

// The text's first position where all since is kept, else -1.
int64_t SequenceState::begin_of(const SavedState& saved) {
  const int64_t first = saved.position - saved.tokens.count();
  return !saved.s.data || saved.first == first ? first : -1;
}

// Into slots as far as those reach, and into columns where a tile has such.
void SequenceState::take_tokens(const KeptTokens& tokens) {
  const int64_t count = tokens.count();
  if (count == 0) return;
  const auto* begin = reinterpret_cast<const int64_t*>(tokens.begin.data);
  const auto* neuron = reinterpret_cast<const int32_t*>(tokens.neuron.data);
  const auto* values = reinterpret_cast<const float*>(tokens.r.data);
  const auto* from = reinterpret_cast<const float*>(tokens.x.data);
  const bool columns = has_columns();
  for (int64_t layer = 0; layer < dims_.layers; ++layer, ++begin) {
    for (int64_t t = position_ - count; t < position_; ++t, ++begin, from += dims_.width) {
      std::fill_n(r(layer, slot(t), 0), slot_stride(), 0.0f);
      for (int64_t i = begin[0]; i < begin[1]; ++i) r(layer, slot(t), 0)[tiles_.place(neuron[i])] = values[i];
      for (int64_t tile = 0; tile < tiles_.count; ++tile)
        if (has_columns(tile) && t < first_pending(tile))
          slot_to_column(layer, tile, t, 0, tiles_[tile].count);
      std::copy_n(from, dims_.width, x(layer, slot(t)));
      if (columns) std::copy_n(from, dims_.width, x_of_token(layer, t));
    }
  }
}

// (L, H, N, D) float32 or bfloat16.
void SequenceState::take_s(const Tensor& from) {
  const auto width = static_cast<size_t>(dims_.width), bytes = width * size_of(from.dtype);
  const std::byte* row = from.data;
  for (int64_t layer = 0; layer < dims_.layers; ++layer) {
    for (int64_t tile = 0; tile < tiles_.count; ++tile) {
      for (int64_t i = 0; i < tiles_[tile].count; ++i, row += bytes)
        convert(from.dtype, row, s_dtype_, s_at(layer, tile, i), width);
    }
  }
}

void SequenceState::restore(const SavedState& saved) {
  check(saved, dims_);
  restore_aligned(saved.position == 0 ? SavedState{} : aligned(saved));
}

void SequenceState::restore_aligned(const SavedState& saved) {
  const bool own = is_own(saved), tokens = !saved.s.data && saved.tokens.count() <= columns_;
  if (!own && !tokens) {
    take_s(folded(saved, dims_, horizons_));
  } else if (saved.s.data) {
    take_s(saved.s);
  }
  begin_ = own || tokens ? begin_of(saved) : -1;
  position_ = flushed_ = saved.position;
  provisional_ = 0;
  if (own) {
    const auto* held = reinterpret_cast<const int64_t*>(saved.held.data);
    flushed_ = *std::min_element(held, held + rows_);
  }
  if (own || tokens) take_tokens(saved.tokens);
  release_unused();
}

}  // namespace bdh::cpu
