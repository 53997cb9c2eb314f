// What one sequence remembers on the GPU: S for every layer, float32, every token read so far included.
#pragma once

#include <memory>

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
  /// Position 0, S zero.
  DeviceState(const Sizes& sizes, std::shared_ptr<const Queue> queue);
  ~DeviceState() override;

  int64_t position() const override { return position_; }
  std::unique_ptr<State> clone() const override;
  Tensor save() override;
  void restore(const Tensor& s, int64_t position) override;
  size_t bytes() const override { return memory_.bytes(); }
  static size_t bytes_for(const Sizes& sizes) {
    return static_cast<size_t>(sizes.state_floats()) * sizeof(float);
  }

  const Sizes& sizes() const { return sizes_; }
  float* s() const { return memory_.as<float>(); }
  void advance(int64_t tokens) { position_ += tokens; }
  /// Position 0, S zero.
  void clear();

 private:
  Sizes sizes_;
  std::shared_ptr<const Queue> queue_;
  DeviceMemory memory_;
  int64_t position_ = 0;
};

}  // namespace bdh::cuda
