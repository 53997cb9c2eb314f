// What one sequence remembers on the CPU: S for every layer, and the last few tokens that S does not hold
// yet.
//
// Adding a token to S would write all of S for every token. Instead a token's r and x wait in a window, where
// recall treats them one by one, until a slice's turn comes: then all waiting tokens are added to that slice
// of S in one pass. A slice's turn is every kWindow tokens, another token for each slice, so that every token
// costs about the same.
#pragma once

#include <memory>

#include "kernels/backend.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/slices.h"

namespace bdh::cpu {

constexpr int64_t kWindow = 16;
constexpr int64_t kSlots = kWindow + 1;  // the token being read has a slot too

class SequenceState : public State {
 public:
  SequenceState(const Dimensions& dims, const Kernels& kernels);

  int64_t position() const override { return position_; }
  std::unique_ptr<State> clone() const override;
  Tensor save() override;
  void restore(const Tensor& s, int64_t position) override;
  size_t bytes() const override { return bytes_for(dims_); }
  static size_t bytes_for(const Dimensions& dims);

  /// The slots of a slice's tokens that wait for being added to S, at most kWindow; returns how many there
  /// are.
  int64_t waiting_slots(int64_t slice, int32_t* slots) const;
  /// True when the slice's waiting tokens are to be added to S before the token at position() is read.
  bool is_turn(int64_t slice) const { return (position_ + slice) % kWindow == 0; }
  /// Adds a slice's waiting tokens to S.
  void fold(int64_t layer, int64_t slice);
  /// Moves on by tokens that are in their slots.
  void advance() { ++position_; }
  /// Moves on by tokens that are in S already, as all before them are.
  void advance_folded(int64_t tokens);
  /// True when no token has been added to this slice of S.
  bool is_s_empty(int64_t slice) const {
    return folded_ == 0 && first_waiting(slice) == 0 && !is_turn(slice);
  }

  /// S of one layer, from the row of a slice on: neuron-major, (., stride) float32.
  float* s(int64_t layer, int64_t row) const { return s_.get() + (layer * rows_ + row) * stride_; }
  static int64_t slot(int64_t position) { return position % kSlots; }
  /// One slot of a slice's r: kSlice floats, zero beyond the slice's neurons. Slots are slot_stride() floats
  /// apart.
  float* r(int64_t layer, int64_t slot, int64_t slice) const {
    return r_.get() + (layer * kSlots + slot) * slot_stride() + slice * kSlice;
  }
  int64_t slot_stride() const { return slices_.count * kSlice; }
  /// One slot of x: stride floats; slots follow one another.
  float* x(int64_t layer, int64_t slot) const { return x_.get() + (layer * kSlots + slot) * stride_; }

 private:
  int64_t first_waiting(int64_t slice) const;

  Dimensions dims_;
  const Kernels& kernels_;
  Slices slices_;
  int64_t rows_;          // H * N
  int64_t stride_;        // padded(D)
  int64_t position_ = 0;  // tokens read
  int64_t folded_ = 0;    // every slice's S holds the tokens before this one
  std::shared_ptr<float> s_, r_, x_;
};

}  // namespace bdh::cpu
