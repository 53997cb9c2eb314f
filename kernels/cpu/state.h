// What one sequence remembers on the CPU: S for every layer, and a window of pending tokens that S does not
// hold yet.
//
// S += r^T x for every token would read and write all of S each time. So a token's r and x are kept in the
// window instead, and attention reads a pending token as the parallel form does: (r . r_s) x_s. Every kWindow
// tokens a tile of S is flushed: one pass adds all its pending tokens. Tiles are flushed in turn, a sixteenth
// of them at each token, so that every token costs about the same. S may be kept as bfloat16: then a flush,
// and a chunk's addition, widens rows, adds in float32 and rounds.
#pragma once

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

class SequenceState : public State {
 public:
  SequenceState(const Dimensions& dims, const Kernels& kernels, const StateOptions& options);

  int64_t position() const override { return position_; }
  std::unique_ptr<State> clone() const override;
  SavedState save() const override;
  KeptTokens last_tokens(int64_t count) const override;
  void restore(const SavedState& saved) override;
  size_t bytes() const override { return bytes_for(dims_, s_dtype_); }
  static size_t bytes_for(const Dimensions& dims, DType s);

  /// How many there are.
  int64_t tiles() const { return tiles_.count; }
  /// A horizon for each head; none: nothing is damped and phases are rounded.
  std::span<const float> horizons() const { return horizons_; }
  /// exp(-distance / horizon) for a tile's head, distance up to kWindow; 1 without a horizon.
  float weight(int64_t tile, int64_t distance) const {
    if (weights_.empty()) return 1.0f;
    return weights_[tile / tiles_.per_head * (kWindow + 1) + distance];
  }
  // What follows is asked of a position: position(), or one of a token that is read provisionally, to which
  // all tokens before it count as read.
  /// Tokens since the tile was flushed: S is worth weight(tile, lag) of what it holds.
  int64_t lag(int64_t tile, int64_t position) const { return position - first_pending(tile, position); }
  /// The slots of a tile's pending tokens, at most kWindow; returns how many there are.
  int64_t pending_slots(int64_t tile, int64_t position, int32_t* slots) const;
  /// True when the tile is to be flushed before the token at that position is read.
  static bool is_flush_due(int64_t tile, int64_t position) { return (position + tile) % kWindow == 0; }
  /// Where the tile is flushed: at the position, or at the last one before it.
  static int64_t last_flush(int64_t tile, int64_t position) { return position - (position + tile) % kWindow; }
  /// Adds a tile's pending tokens to S.
  void flush(int64_t layer, int64_t tile) { flush(layer, tile, position_); }
  void flush(int64_t layer, int64_t tile, int64_t position);
  /// Rows of S as a flush at that position will leave them: those of the tile's neurons given, in their
  /// places in `rows` (kTileNeurons, stride).
  void flushed_rows(int64_t layer, int64_t tile, int64_t position, const int32_t* neurons, int64_t count,
                    float* rows) const;
  /// Moves on by a token that is in its slot.
  void advance() { ++position_; }
  /// Tokens in the slots after position() are read once they are accepted.
  void set_provisional(int64_t tokens) { provisional_ = tokens; }
  /// Accepting the first of them: throws Error(invalid_argument) for more than there are; flushes a tile that
  /// was due at one of them, as it would have been then; moves on.
  void check_accepted(int64_t tokens) const;
  void flush_accepted(int64_t tile, int64_t tokens);
  void advance_accepted(int64_t tokens) {
    position_ += tokens;
    provisional_ = 0;
  }
  /// Moves on by tokens that are in S already, as all before them are.
  void advance_flushed(int64_t tokens);
  /// True when no token has been added to this tile of S.
  bool is_s_empty(int64_t tile, int64_t position) const {
    return flushed_ == 0 && first_pending(tile, position) == 0 && !is_flush_due(tile, position);
  }

  /// S of one layer, from that row on: neuron-major, stride numbers each.
  Rows s(int64_t layer, int64_t row) const { return {s_at(layer * rows_ + row), s_dtype_, stride_}; }
  /// Rows of S as float32, to be changed: where they are, or copied into `space` (count, stride). keep_s
  /// takes them back.
  float* open_s(int64_t layer, int64_t row, int64_t count, float* space) const;
  void keep_s(int64_t layer, int64_t row, int64_t count, const float* rows) const;
  static int64_t slot(int64_t position) { return position % kSlots; }
  /// One slot of a tile's r: kTileNeurons floats, zero beyond the tile's neurons. Slots are slot_stride()
  /// floats apart.
  float* r(int64_t layer, int64_t slot, int64_t tile) const {
    return r_.get() + (layer * kSlots + slot) * slot_stride() + tile * kTileNeurons;
  }
  int64_t slot_stride() const { return tiles_.count * kTileNeurons; }
  /// One slot of x: stride floats; slots follow one another.
  float* x(int64_t layer, int64_t slot) const { return x_.get() + (layer * kSlots + slot) * stride_; }

 private:
  struct Flush;

  int64_t first_pending(int64_t tile) const { return first_pending(tile, position_); }
  int64_t first_pending(int64_t tile, int64_t position) const {
    return first_pending(tile, position, flushed_);
  }
  static int64_t first_pending(int64_t tile, int64_t position, int64_t flushed);
  KeptTokens window(int64_t first) const;
  bool is_own(const SavedState& saved) const;
  void take_s(const Tensor& from);
  void take_window(const KeptTokens& tokens);
  void restore_aligned(const SavedState& saved);
  std::byte* s_at(int64_t row) const {
    return s_.get() + row * stride_ * static_cast<int64_t>(size_of(s_dtype_));
  }

  Dimensions dims_;
  const Kernels& kernels_;
  NeuronTiles tiles_;
  int64_t rows_;             // H * N
  int64_t stride_;           // padded(D)
  int64_t position_ = 0;     // tokens read
  int64_t provisional_ = 0;  // tokens behind it that may be accepted
  std::vector<float> horizons_;
  std::vector<float> weights_;  // (H, kWindow + 1), or none
  int64_t flushed_ = 0;         // every tile's S holds the tokens before this one
  DType s_dtype_;               // f32 or bf16
  std::shared_ptr<std::byte> s_;
  std::shared_ptr<float> r_, x_;
};

}  // namespace bdh::cpu
