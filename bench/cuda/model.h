// A model on the GPU below the level of sessions: packed weights, a stream, and states that have read a text.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/source.h"
#include "bench/work.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/state.h"

namespace bdh::bench {

using States = std::vector<std::unique_ptr<cuda::DeviceState>>;

/// The instructions that products of 16-bit elements can be made with, the backend's own choice first.
std::vector<cuda::Mma> mmas_of(int device);
/// "mma", "wgmma"
const char* name_of(cuda::Mma mma);

class GpuModel {
 public:
  GpuModel(const std::shared_ptr<Subject>& subject, std::shared_ptr<const cuda::Queue> queue)
      : subject_(subject), queue_(std::move(queue)), weights_(subject->weights()) {}

  const cuda::PackedParameters& packed() const {
    return static_cast<const cuda::PackedParameters&>(weights_->packed());
  }
  const cuda::Sizes& sizes() const { return packed().sizes; }
  const cuda::Stream& stream() const { return queue_->stream; }
  int device() const { return queue_->device; }
  const std::string& name() const { return subject_->source().name; }
  ModelSizes counted() const { return {subject_->source().config, packed().dtype}; }
  std::vector<int32_t> tokens(int64_t position, int64_t count) const {
    return subject_->tokens(position, count);
  }

  /// `count` states that have read the same `position` tokens.
  States states(int64_t position, int count) const;

 private:
  std::shared_ptr<Subject> subject_;
  std::shared_ptr<const cuda::Queue> queue_;
  std::shared_ptr<const Weights> weights_;
};

/// Device memory for a copy of `bytes` bytes, and the copy queued.
cuda::DeviceMemory copy_of(const void* from, size_t bytes, const cuda::Stream& stream);
/// Queues a copy between two places on the device.
void copy(void* to, const void* from, size_t bytes, const cuda::Stream& stream);
/// Numbers on the device as floats, the stream having been waited for.
std::vector<float> floats_of(const void* from, DType dtype, int64_t count, const cuda::Stream& stream);

/// Elements of a vector on the device.
template <class Element>
cuda::DeviceMemory uploaded(const std::vector<Element>& from, const cuda::Stream& stream) {
  cuda::DeviceMemory memory(from.size() * sizeof(Element), "a benchmark's inputs");
  cuda::check(
      cudaMemcpyAsync(memory.as<void>(), from.data(), memory.bytes(), cudaMemcpyHostToDevice, stream.get()),
      "copying inputs to the GPU");
  stream.wait();
  return memory;
}

}  // namespace bdh::bench
