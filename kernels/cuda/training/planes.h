// Planes and carried states on a GPU.
#pragma once

#include <memory>

#include "kernels/cuda/state.h"
#include "kernels/training.h"

namespace bdh::cuda {

class DevicePlane : public Plane {
 public:
  /// Zeros.
  DevicePlane(int64_t floats, std::shared_ptr<const Queue> queue);
  ~DevicePlane() override;
  float* data() const { return memory_.as<float>(); }

 private:
  std::shared_ptr<const Queue> queue_;
  DeviceMemory memory_;
};

class DeviceCarriedState : public CarriedState {
 public:
  DeviceCarriedState(const Dimensions& dims, int64_t sequences, std::shared_ptr<const Queue> queue);
  ~DeviceCarriedState() override;

  int64_t position() const override { return position_; }
  void reset() override;
  Tensor save() const override;
  void restore(const Tensor& saved, int64_t position) override;

  int64_t sequences() const { return sequences_; }
  /// (L, B, H N, stride).
  float* data() const { return memory_.as<float>(); }
  void advance(int64_t tokens) { position_ += tokens; }

 private:
  size_t row_bytes() const { return static_cast<size_t>(dims_.width) * sizeof(float); }
  size_t pitch() const { return static_cast<size_t>(rounded_up(dims_.width, kVector)) * sizeof(float); }
  size_t rows() const { return static_cast<size_t>(dims_.layers * sequences_ * dims_.heads * dims_.neurons); }

  Dimensions dims_;
  int64_t sequences_;
  std::shared_ptr<const Queue> queue_;
  DeviceMemory memory_;
  int64_t position_ = 0;
};

}  // namespace bdh::cuda
