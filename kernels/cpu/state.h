// What one sequence remembers on the CPU: S for every layer, and a window of pending tokens that S does not
// hold yet.
//
// S += r^T x for every token would read and write all of S each time. So a token's r and x are kept in the
// window instead, and attention reads a pending token as the parallel form does: (r . r_s) x_s. Every kWindow
// tokens a tile of S is flushed: one pass adds all its pending tokens. Tiles are flushed in turn, a sixteenth
// of them at each token, so that every token costs about the same. S may be kept as bfloat16: then a flush,
// and a chunk's addition, widens rows, adds in float32 and rounds.
//
// A text begins in token form: flushed tokens become columns, r of each neuron and token, and are read as
// (r . r_s) x_s too, which takes less reading than S while there are less than D / 2 of them. The flush that
// would go beyond makes S of a tile's columns. They have memory of their own, which is used as far as the
// text has come; S's is not touched before there is S. A tile's columns are given back when they become S,
// and take no more than it. Tiles that are flushed at the same token lie side by side in all layers, so that
// pages fill and empty whole, and both forms together take no more than S.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/tiles.h"

namespace bdh::cpu {

constexpr int64_t kWindow = 16;
constexpr int64_t kSlots = kWindow + kMostProvisional;  // tokens being read have slots too
static_assert(kWindow <= kMostPending);
constexpr int64_t kColumnBlock = 16;  // columns that lie together, at most

class SequenceState : public State {
 public:
  SequenceState(const Dimensions& dims, const Kernels& kernels, const StateOptions& options);

  int64_t position() const override { return position_; }
  void copy(const State& other) override;
  SavedState save() const override;
  KeptTokens last_tokens(int64_t count) const override;
  void restore(const SavedState& saved) override;
  size_t bytes() const override { return bytes_for(dims_, s_dtype_); }
  static size_t bytes_for(const Dimensions& dims, DType s);

  /// How many there are.
  int64_t tiles() const { return tiles_.count; }
  /// A horizon for each head; none: nothing is damped and phases are rounded.
  std::span<const float> horizons() const { return horizons_; }
  /// exp(-distance / horizon) for a tile's head, distance up to most_distance(); 1 without a horizon.
  float weight(int64_t tile, int64_t distance) const {
    if (weights_.empty()) return 1.0f;
    return weights_[tile / tiles_.per_head * (most_distance() + 1) + distance];
  }
  // What follows is asked of a position: position(), or one of a token that is read provisionally, to which
  // all tokens before it count as read.
  /// Tokens since the tile was flushed: S is worth weight(tile, lag) of what it holds.
  int64_t lag(int64_t tile, int64_t position) const { return position - first_pending(tile, position); }
  /// The slots of a tile's pending tokens, at most kWindow; returns how many there are.
  int64_t pending_slots(int64_t tile, int64_t position, int32_t* slots) const;
  /// True when the tile is to be flushed before the token at that position is read.
  static bool is_flush_due(int64_t tile, int64_t position) { return (position + tile) % kWindow == 0; }
  /// The first such tile, where there are so many.
  static int64_t first_due(int64_t position) { return (kWindow - position % kWindow) % kWindow; }
  /// Where the tile is flushed: at the position, or at the last one before it.
  static int64_t last_flush(int64_t tile, int64_t position) { return position - (position + tile) % kWindow; }
  /// The tokens before this one are in S, or in columns, when the token at that position is read.
  int64_t held(int64_t tile, int64_t position) const {
    return std::max(flushed_, last_flush(tile, position));
  }
  /// Makes columns of a tile's pending tokens, or adds them to S, which is first made of the columns there
  /// are when they would become too many.
  void flush(int64_t layer, int64_t tile, int64_t position);
  /// Whether a tile that holds the tokens before this one holds them as columns. A flush that leaves columns
  /// only adds such: they count once all tokens before them are read, so that it may be done for provisional
  /// tokens.
  bool are_columns(int64_t held) const { return begin_ >= 0 && held - begin_ <= columns_; }
  /// Rows of S as a flush at that position will leave them: those of the tile's neurons given, in their
  /// places in `rows` (kTileNeurons, stride).
  void flushed_rows(int64_t layer, int64_t tile, int64_t position, const int32_t* neurons, int64_t count,
                    float* rows) const;
  /// Moves on by a token that is in its slot.
  void advance() { move_to(position_ + 1, flushed_); }
  /// Tokens in the slots after position() are read once they are accepted.
  void set_provisional(int64_t tokens) { provisional_ = tokens; }
  /// Accepting the first of them: throws Error(invalid_argument) for more than there are; flushes a tile that
  /// was due at one of them, as it would have been then; moves on.
  void check_accepted(int64_t tokens) const;
  void flush_accepted(int64_t tile, int64_t tokens);
  void advance_accepted(int64_t tokens) {
    provisional_ = 0;
    move_to(position_ + tokens, flushed_);
  }
  /// Moves on by tokens that are in S already, as all before them are.
  void advance_flushed(int64_t tokens);

  // Token form.
  /// Whether the token at that position meets columns in this tile, and no S.
  bool reads_columns(int64_t tile, int64_t position) const { return are_columns(held(tile, position)); }
  /// Whether a chunk leaves columns.
  bool keeps_columns(int64_t tokens) const { return are_columns(position_ + tokens); }
  /// True when nothing has been read.
  bool is_new() const { return position_ == begin_; }
  /// The text's first position; -1 where S was restored.
  int64_t begin() const { return begin_; }
  /// Columns lie in blocks of this width.
  int64_t column_block() const { return column_block_; }
  /// Block b of a tile's columns from a neuron on: column_block() floats of each.
  Rows columns(int64_t layer, int64_t b, int64_t tile, int64_t neuron) const {
    return {block_of_columns(layer, b, tile) + neuron * column_block_, DType::f32, column_block_};
  }
  /// x of the tokens from begin() on, while some tile has columns: stride floats each.
  float* x_of_tokens(int64_t layer) const {
    return x_of_tokens_.get() + layer * (columns_ + kSlots) * stride_;
  }
  /// r (count, tokens), r_stride apart, of a tile's neurons from `neuron` on becomes columns of the tokens
  /// from position() on.
  void keep_columns(int64_t layer, int64_t tile, int64_t neuron, int64_t count, int64_t tokens,
                    const float* r, int64_t r_stride) const;
  /// Flushes a tile before a chunk is read, and makes S where the chunk leaves S.
  void flush_before(int64_t layer, int64_t tile, int64_t tokens);

  /// S of a tile in one layer: neuron-major, stride numbers each.
  Rows s(int64_t layer, int64_t tile) const { return {s_at(layer, tile, 0), s_dtype_, stride_}; }
  /// Rows of S as float32, of a tile's neurons from `neuron` on, to be changed: where they are, or copied
  /// into `space` (count, stride). keep_s takes them back.
  float* open_s(int64_t layer, int64_t tile, int64_t neuron, int64_t count, float* space) const;
  void keep_s(int64_t layer, int64_t tile, int64_t neuron, int64_t count, const float* rows) const;
  static int64_t slot(int64_t position) { return position % kSlots; }
  /// One slot of a tile's r: kTileNeurons floats, zero beyond the tile's neurons. Slots are slot_stride()
  /// floats apart.
  float* r(int64_t layer, int64_t slot, int64_t tile) const {
    return r_.get() + (layer * kSlots + slot) * slot_stride() + tile * kTileNeurons;
  }
  int64_t slot_stride() const { return tiles_.count * kTileNeurons; }
  /// One slot of x: stride floats; slots follow one another.
  float* x(int64_t layer, int64_t slot) const { return x_.get() + (layer * kSlots + slot) * stride_; }
  /// x of the token at that position, for its slot and its column.
  void keep_x(int64_t layer, int64_t position, const float* x);

 private:
  struct Pending;

  int64_t first_pending(int64_t tile) const { return first_pending(tile, position_); }
  int64_t first_pending(int64_t tile, int64_t position) const {
    return first_pending(tile, position, flushed_);
  }
  static int64_t first_pending(int64_t tile, int64_t position, int64_t flushed);
  int64_t most_distance() const { return columns_ + kSlots; }
  bool has_columns(int64_t tile) const { return are_columns(first_pending(tile)); }
  bool has_columns() const { return turns_with_columns() != 0; }
  bool has_s() const { return turns_with_columns() != (1U << turns_) - 1; }
  float* block_of_columns(int64_t layer, int64_t b, int64_t tile) const {
    return r_of_tokens_.get() + (b * dims_.layers * rows_ + place(layer, tile)) * column_block_;
  }
  float* column_of(int64_t layer, int64_t tile, int64_t position) const {
    const int64_t at = position - begin_;
    return block_of_columns(layer, at / column_block_, tile) + at % column_block_;
  }
  float* x_of_token(int64_t layer, int64_t position) const {
    return x_of_tokens(layer) + (position - begin_) * stride_;
  }
  void flush_to_columns(int64_t layer, int64_t tile, int64_t position);
  void slot_to_column(int64_t layer, int64_t tile, int64_t position, int64_t neuron, int64_t count) const;
  void flush_to_s(int64_t layer, int64_t tile, int64_t position);
  void round_as_s(float* row, uint16_t* space) const;
  void sum_columns(int64_t layer, int64_t tile, int64_t held, int64_t neuron, int64_t count,
                   float* rows) const;
  void to_s(int64_t layer, int64_t tile, int64_t held);
  const float* r_of(int64_t layer, int64_t tile, int64_t position, float* space) const;
  void copy_columns(const SequenceState& from);
  uint32_t turns_with_columns() const;
  void move_to(int64_t position, int64_t flushed);
  void release_columns(uint32_t turns) const;
  void release_unused() const;
  KeptTokens kept_from(int64_t first) const;
  bool is_own(const SavedState& saved) const;
  static int64_t begin_of(const SavedState& saved);
  void save_s(int64_t layer, int64_t tile, float* to) const;
  void take_s(const Tensor& from);
  void take_tokens(const KeptTokens& tokens);
  void restore_aligned(const SavedState& saved);
  int64_t place(int64_t layer, int64_t tile) const { return places_[layer * tiles_.count + tile]; }
  std::byte* s_at(int64_t layer, int64_t tile, int64_t neuron) const {
    return s_.get() + (place(layer, tile) + neuron) * stride_ * static_cast<int64_t>(size_of(s_dtype_));
  }

  Dimensions dims_;
  const Kernels& kernels_;
  NeuronTiles tiles_;
  int64_t rows_;                 // H * N
  int64_t turns_;                // in which tiles are flushed: a tile has turn tile % turns_
  std::vector<int64_t> places_;  // (L, tiles): the neurons of those that lie before it
  int64_t stride_;               // padded(D)
  int64_t column_block_;         // floats of a row of a block
  int64_t columns_;              // tokens that there are columns for
  int64_t begin_ = 0;
  int64_t position_ = 0;     // tokens read
  int64_t provisional_ = 0;  // tokens behind it that may be accepted
  std::vector<float> horizons_;
  std::vector<float> weights_;  // (H, most_distance() + 1), or none
  int64_t flushed_ = 0;         // every tile's S, or columns, hold the tokens before this one
  DType s_dtype_;               // f32 or bf16
  std::shared_ptr<std::byte> s_;
  std::shared_ptr<float> r_, x_, r_of_tokens_, x_of_tokens_;
};

}  // namespace bdh::cpu
