// Memory of planes and carried states, and the states' way to the CPU and back.
#include "kernels/cuda/training/planes.h"

#include "kernels/training_checks.h"

namespace bdh::cuda {

namespace {

DeviceMemory cleared(size_t bytes, const char* what, const Queue& queue) {
  queue.select();
  DeviceMemory memory(bytes, what);
  check(cudaMemsetAsync(memory.as<void>(), 0, memory.bytes(), queue.stream.get()), "clearing GPU memory");
  return memory;
}

}  // namespace

DevicePlane::DevicePlane(int64_t floats, std::shared_ptr<const Queue> queue)
    : queue_(std::move(queue)),
      memory_(cleared(static_cast<size_t>(floats) * sizeof(float), "the parameters in training", *queue_)) {}

DevicePlane::~DevicePlane() { cudaSetDevice(queue_->device); }

DeviceCarriedState::DeviceCarriedState(const Dimensions& dims, int64_t sequences,
                                       std::shared_ptr<const Queue> queue)
    : dims_(dims),
      sequences_(sequences),
      queue_(std::move(queue)),
      memory_(cleared(rows() * pitch(), "the states carried from block to block", *queue_)) {}

DeviceCarriedState::~DeviceCarriedState() { cudaSetDevice(queue_->device); }

void DeviceCarriedState::reset() {
  queue_->select();
  check(cudaMemsetAsync(memory_.as<void>(), 0, memory_.bytes(), queue_->stream.get()), "clearing GPU memory");
  position_ = 0;
}

Tensor DeviceCarriedState::save() const {
  queue_->select();
  std::byte* to = nullptr;
  Tensor tensor = make_tensor(DType::f32, carried_shape(dims_, sequences_), &to);
  check(cudaMemcpy2DAsync(to, row_bytes(), data(), pitch(), row_bytes(), rows(), cudaMemcpyDeviceToHost,
                          queue_->stream.get()),
        "copying a state from the GPU");
  queue_->stream.wait();
  return tensor;
}

void DeviceCarriedState::restore(const Tensor& saved, int64_t position) {
  check_carried(saved, carried_shape(dims_, sequences_));
  queue_->select();
  check(cudaMemcpy2DAsync(data(), pitch(), saved.data, row_bytes(), row_bytes(), rows(),
                          cudaMemcpyHostToDevice, queue_->stream.get()),
        "copying a state to the GPU");
  queue_->stream.wait();
  position_ = position;
}

}  // namespace bdh::cuda
