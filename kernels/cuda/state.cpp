// The state's memory, and its way to the CPU and back.
#include "kernels/cuda/state.h"

#include "bdh/base/error.h"

namespace bdh::cuda {

Queue::Queue(int index) : device((check(cudaSetDevice(index), "selecting a GPU"), index)) {}

void Queue::select() const { check(cudaSetDevice(device), "selecting a GPU"); }

DeviceState::DeviceState(const Sizes& sizes, std::shared_ptr<const Queue> queue)
    : sizes_(sizes), queue_(std::move(queue)) {
  queue_->select();
  memory_ = DeviceMemory(bytes_for(sizes_), "a session's state");
  clear();
}

void DeviceState::clear() {
  check(cudaMemsetAsync(memory_.as<void>(), 0, memory_.bytes(), queue_->stream.get()), "clearing GPU memory");
  position_ = 0;
}

DeviceState::~DeviceState() {
  if (memory_.bytes() > 0) cudaSetDevice(queue_->device);
}

std::unique_ptr<State> DeviceState::clone() const {
  auto copy = std::make_unique<DeviceState>(sizes_, queue_);
  check(cudaMemcpyAsync(copy->s(), s(), memory_.bytes(), cudaMemcpyDeviceToDevice, queue_->stream.get()),
        "copying a state");
  copy->position_ = position_;
  return copy;
}

// Rows lose their padding on the way.
Tensor DeviceState::save() {
  queue_->select();
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(DType::f32, {sizes_.layers, sizes_.heads, sizes_.neurons, sizes_.width}, &data);
  const size_t row = static_cast<size_t>(sizes_.width) * sizeof(float),
               pitch = static_cast<size_t>(sizes_.stride) * sizeof(float);
  check(cudaMemcpy2DAsync(data, row, s(), pitch, row, static_cast<size_t>(sizes_.layers * sizes_.rows()),
                          cudaMemcpyDeviceToHost, queue_->stream.get()),
        "copying a state from the GPU");
  queue_->stream.wait();
  return tensor;
}

void DeviceState::restore(const Tensor& s_given, int64_t position) {
  const Shape shape{sizes_.layers, sizes_.heads, sizes_.neurons, sizes_.width};
  if (s_given.dtype != DType::f32 || s_given.shape != shape || !s_given.contiguous()) {
    fail(ErrorKind::invalid_argument, "a state of ", name_of(s_given.dtype), " ", to_string(s_given.shape),
         " cannot be restored here; this model's is F32 ", to_string(shape));
  }
  if (position < 0) fail(ErrorKind::invalid_argument, "a state's position cannot be ", position);
  queue_->select();
  if (position == 0) return clear();
  const size_t row = static_cast<size_t>(sizes_.width) * sizeof(float),
               pitch = static_cast<size_t>(sizes_.stride) * sizeof(float);
  check(cudaMemcpy2DAsync(s(), pitch, s_given.data, row, row,
                          static_cast<size_t>(sizes_.layers * sizes_.rows()), cudaMemcpyHostToDevice,
                          queue_->stream.get()),
        "copying a state to the GPU");
  queue_->stream.wait();
  position_ = position;
}

}  // namespace bdh::cuda
