// What one sequence remembers on the GPU: S for every layer, float32, every token read so far included.
//
// With a horizon h what is kept is exp(lag / h) S, lag = position - base: then a token decays nothing, and
// rows of inactive neurons are left alone. A chunk brings S to the scale of its end, since it writes all of S
// anyway; single tokens let the lag grow to kMostLag horizons before one pass does it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sizes.h"

namespace bdh::cuda {

/// A GPU and the stream that everything of a backend runs on, in order.
struct Queue {
  explicit Queue(int index);
  /// Makes the GPU the calling thread's current one.
  void select() const;

  int device;
  Stream stream;
};

class DeviceState : public State {
 public:
  /// Position 0, S zero. horizons: for each head, or none.
  DeviceState(const Sizes& sizes, std::shared_ptr<const Queue> queue, std::span<const float> horizons = {});
  ~DeviceState() override;

  int64_t position() const override { return position_; }
  void copy(const State& other) override;
  SavedState save() const override;
  KeptTokens last_tokens(int64_t count) const override;
  void restore(const SavedState& saved) override;
  size_t bytes() const override { return memory_.bytes(); }
  static size_t bytes_for(const Sizes& sizes) {
    return static_cast<size_t>(sizes.state_floats()) * sizeof(float);
  }

  const Sizes& sizes() const { return sizes_; }
  float* s() const { return memory_.as<float>(); }
  void advance(int64_t tokens) { position_ += tokens; }
  /// Whether it has a horizon.
  bool damped() const { return !horizons_.empty(); }
  /// (H): of the token at position().
  void scales(std::span<Scales> scales) const;
  /// Appends what PrefillSegment::weights stands for, of the next `count` tokens.
  void append_weights(int64_t count, std::vector<float>& weights) const;
  /// S has been brought to the scale of position().
  void rescaled() { base_ = position_; }
  /// Queues that, where the lag is long.
  void rescale_when_due();
  /// Position 0, S zero.
  void clear();

 private:
  Sizes sizes_;
  std::shared_ptr<const Queue> queue_;
  DeviceMemory memory_;
  void rescale();
  double exponent(size_t head) const;

  std::vector<float> horizons_;
  DeviceMemory device_horizons_;
  int64_t position_ = 0;
  int64_t base_ = 0;
};

}  // namespace bdh::cuda
