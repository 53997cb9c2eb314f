// States that have read, and copies.
#include "bench/cuda/model.h"

#include "kernels/cuda/backend.h"
#include "kernels/cuda/devices.h"
#include "kernels/cuda/prefill_reader.h"

namespace bdh::bench {

using cuda::check;

std::vector<cuda::Mma> mmas_of(int device) {
  const cuda::Mma usual = cuda::Options{}.mma;
  if (!cuda::has_warpgroups(device)) return {cuda::Mma::warp};
  return {usual, usual == cuda::Mma::warp ? cuda::Mma::warpgroup : cuda::Mma::warp};
}

const char* name_of(cuda::Mma mma) { return mma == cuda::Mma::warp ? "mma" : "wgmma"; }

States GpuModel::states(int64_t position, int count) const {
  States states;
  states.push_back(std::make_unique<cuda::DeviceState>(sizes(), queue_));
  if (position > 0) {
    const std::vector<int32_t> text = tokens(0, position);
    const Segment segment{.state = states.front().get(), .tokens = text};
    cuda::PrefillReader(queue_, cuda::Mma::warp).read(packed(), {&segment, 1}, {});
  }
  while (static_cast<int>(states.size()) < count) {
    states.push_back(std::make_unique<cuda::DeviceState>(sizes(), queue_));
    copy(states.back()->s(), states.front()->s(), states.front()->bytes(), stream());
    states.back()->advance(position);
  }
  stream().wait();
  return states;
}

void copy(void* to, const void* from, size_t bytes, const cuda::Stream& stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream.get()), "copying on the GPU");
}

cuda::DeviceMemory copy_of(const void* from, size_t bytes, const cuda::Stream& stream) {
  cuda::DeviceMemory memory(bytes, "a copy of a benchmark's inputs");
  copy(memory.as<void>(), from, bytes, stream);
  return memory;
}

std::vector<float> floats_of(const void* from, DType dtype, int64_t count, const cuda::Stream& stream) {
  const auto elements = static_cast<size_t>(count);
  std::vector<std::byte> raw(elements * size_of(dtype));
  check(cudaMemcpyAsync(raw.data(), from, raw.size(), cudaMemcpyDeviceToHost, stream.get()),
        "copying results from the GPU");
  stream.wait();
  std::vector<float> floats(elements);
  convert(dtype, raw.data(), DType::f32, floats.data(), elements);
  return floats;
}

}  // namespace bdh::bench
