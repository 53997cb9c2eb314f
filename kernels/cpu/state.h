// What one sequence remembers on the CPU: S for every layer, and a window of pending tokens that S does not
// hold yet.
//
// S += r^T x for every token would read and write all of S each time. So a token's r and x are kept in the
// window instead, and attention reads a pending token as the parallel form does: (r . r_s) x_s. Every kWindow
// tokens a tile of S is flushed: one pass adds all its pending tokens. Tiles are flushed in turn, a sixteenth
// of them at each token, so that every token costs about the same.
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
constexpr int64_t kSlots = kWindow + 1;  // the token being read has a slot too

class SequenceState : public State {
 public:
  /// horizons: for each head, or none.
  SequenceState(const Dimensions& dims, const Kernels& kernels, std::span<const float> horizons = {});

  int64_t position() const override { return position_; }
  std::unique_ptr<State> clone() const override;
  SavedState save() const override;
  void restore(const SavedState& saved) override;
  size_t bytes() const override { return bytes_for(dims_); }
  static size_t bytes_for(const Dimensions& dims);

  /// A horizon for each head; none: nothing is damped and phases are rounded.
  std::span<const float> horizons() const { return horizons_; }
  /// exp(-distance / horizon) for a tile's head, distance up to kWindow; 1 without a horizon.
  float weight(int64_t tile, int64_t distance) const {
    if (weights_.empty()) return 1.0f;
    return weights_[tile / tiles_.per_head * (kWindow + 1) + distance];
  }
  /// Tokens since the tile was flushed: S is worth weight(tile, lag(tile)) of what it holds.
  int64_t lag(int64_t tile) const { return position_ - first_pending(tile); }
  /// The slots of a tile's pending tokens, at most kWindow; returns how many there are.
  int64_t pending_slots(int64_t tile, int32_t* slots) const;
  /// True when the tile is to be flushed before the token at position() is read.
  bool is_flush_due(int64_t tile) const { return (position_ + tile) % kWindow == 0; }
  /// Adds a tile's pending tokens to S.
  void flush(int64_t layer, int64_t tile);
  /// Moves on by tokens that are in their slots.
  void advance() { ++position_; }
  /// Moves on by tokens that are in S already, as all before them are.
  void advance_flushed(int64_t tokens);
  /// True when no token has been added to this tile of S.
  bool is_s_empty(int64_t tile) const {
    return flushed_ == 0 && first_pending(tile) == 0 && !is_flush_due(tile);
  }

  /// S of one layer, from the row of a tile on: neuron-major, (., stride) float32.
  float* s(int64_t layer, int64_t row) const { return s_.get() + (layer * rows_ + row) * stride_; }
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
  int64_t first_pending(int64_t tile) const { return first_pending(tile, position_, flushed_); }
  static int64_t first_pending(int64_t tile, int64_t position, int64_t flushed);
  KeptTokens window(int64_t first) const;
  bool is_own(const SavedState& saved) const;
  void take_window(const KeptTokens& tokens);

  Dimensions dims_;
  const Kernels& kernels_;
  NeuronTiles tiles_;
  int64_t rows_;          // H * N
  int64_t stride_;        // padded(D)
  int64_t position_ = 0;  // tokens read
  std::vector<float> horizons_;
  std::vector<float> weights_;  // (H, kWindow + 1), or none
  int64_t flushed_ = 0;         // every tile's S holds the tokens before this one
  std::shared_ptr<float> s_, r_, x_;
};

}  // namespace bdh::cpu
