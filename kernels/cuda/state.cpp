// The state's memory, and its way to the CPU and back.
#include "kernels/cuda/state.h"

#include <algorithm>
#include <cmath>

#include "bdh/base/error.h"
#include "kernels/cuda/rescale.h"
#include "kernels/horizon.h"

namespace bdh::cuda {

namespace {

// Of the shortest horizon: exp of it is far from the ends of float32.
constexpr double kMostLag = 60;

}  // namespace

Queue::Queue(int index) : device((check(cudaSetDevice(index), "selecting a GPU"), index)) {}

void Queue::select() const { check(cudaSetDevice(device), "selecting a GPU"); }

DeviceState::DeviceState(const Sizes& sizes, std::shared_ptr<const Queue> queue,
                         std::span<const float> horizons)
    : sizes_(sizes), queue_(std::move(queue)), horizons_(horizons.begin(), horizons.end()) {
  queue_->select();
  memory_ = DeviceMemory(bytes_for(sizes_), "a session's state");
  if (damped()) {
    device_horizons_ = DeviceMemory(horizons_.size() * sizeof(float), "a session's horizons");
    check(cudaMemcpy(device_horizons_.as<void>(), horizons_.data(), device_horizons_.bytes(),
                     cudaMemcpyHostToDevice),
          "copying horizons to the GPU");
  }
  clear();
}

void DeviceState::clear() {
  check(cudaMemsetAsync(memory_.as<void>(), 0, memory_.bytes(), queue_->stream.get()), "clearing GPU memory");
  position_ = base_ = 0;
}

DeviceState::~DeviceState() {
  if (memory_.bytes() > 0) cudaSetDevice(queue_->device);
}

void DeviceState::copy(const State& other) {
  const auto& from = static_cast<const DeviceState&>(other);
  queue_->select();
  check(cudaMemcpyAsync(s(), from.s(), memory_.bytes(), cudaMemcpyDeviceToDevice, queue_->stream.get()),
        "copying a state");
  position_ = from.position_;
  base_ = from.base_;
}

double DeviceState::exponent(size_t head) const {
  return static_cast<double>(position_ - base_) / static_cast<double>(horizons_[head]);
}

void DeviceState::scales(std::span<Scales> scales) const {
  for (size_t head = 0; head < scales.size(); ++head) {
    const double exponent_of = exponent(head);
    scales[head] = {static_cast<float>(std::exp(-exponent_of)), static_cast<float>(std::exp(exponent_of))};
  }
}

void DeviceState::append_weights(int64_t count, std::vector<float>& weights) const {
  for (size_t head = 0; head < horizons_.size(); ++head) {
    const float horizon = horizons_[head];
    const double exponent_of = exponent(head);
    weights.insert(weights.end(), {static_cast<float>(std::exp(-exponent_of)),
                                   weight_after(position_ + count - base_, horizon),
                                   static_cast<float>(std::exp(exponent_of))});
    for (int64_t distance = 0; distance <= count; ++distance)
      weights.push_back(weight_after(distance, horizon));
  }
}

void DeviceState::rescale_when_due() {
  for (size_t head = 0; head < horizons_.size(); ++head) {
    if (exponent(head) > kMostLag) return rescale();
  }
}

void DeviceState::rescale() {
  rescale_state(sizes_, s(), device_horizons_.as<const float>(), position_ - base_, queue_->stream.get());
  rescaled();
}

KeptTokens DeviceState::last_tokens(int64_t) const {
  fail(ErrorKind::unsupported, "the CUDA backend keeps no tokens; keep the session as its state");
}

// Rows lose their padding on the way.
SavedState DeviceState::save() const {
  queue_->select();
  SavedState saved;
  saved.position = position_;
  saved.base = base_;
  std::byte* data = nullptr;
  saved.s = make_tensor(DType::f32, {sizes_.layers, sizes_.heads, sizes_.neurons, sizes_.width}, &data);
  const size_t row = static_cast<size_t>(sizes_.width) * sizeof(float),
               pitch = static_cast<size_t>(sizes_.stride) * sizeof(float);
  check(cudaMemcpy2DAsync(data, row, s(), pitch, row, static_cast<size_t>(sizes_.layers * sizes_.rows()),
                          cudaMemcpyDeviceToHost, queue_->stream.get()),
        "copying a state from the GPU");
  queue_->stream.wait();
  return saved;
}

void DeviceState::restore(const SavedState& saved) {
  const Dimensions dims{sizes_.layers, sizes_.width, sizes_.heads, sizes_.neurons, sizes_.vocab};
  bdh::check(saved, dims);
  queue_->select();
  if (saved.position == 0) return clear();
  const bool whole =
      saved.s.data && saved.s.dtype == DType::f32 && !saved.held.data && saved.tokens.count() == 0;
  const Tensor all = whole ? saved.s : folded(saved, dims, horizons_);
  const size_t row = static_cast<size_t>(sizes_.width) * sizeof(float),
               pitch = static_cast<size_t>(sizes_.stride) * sizeof(float);
  check(cudaMemcpy2DAsync(s(), pitch, all.data, row, row, static_cast<size_t>(sizes_.layers * sizes_.rows()),
                          cudaMemcpyHostToDevice, queue_->stream.get()),
        "copying a state to the GPU");
  queue_->stream.wait();
  position_ = saved.position;
  base_ = whole ? saved.base : position_;
}

}  // namespace bdh::cuda
