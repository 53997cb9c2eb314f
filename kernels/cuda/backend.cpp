// The CUDA backend: the contract, and the choice between decode and prefill.
#include "kernels/cuda/backend.h"

#include <algorithm>
#include <mutex>

#include "bdh/base/error.h"
#include "kernels/cuda/decode_reader.h"
#include "kernels/cuda/devices.h"
#include "kernels/cuda/prefill_reader.h"
#include "kernels/cuda/state.h"
#include "kernels/cuda/training/training.h"
#include "kernels/training.h"

namespace bdh::cuda {

namespace {

void require_float_state(DType s) {
  if (s != DType::f32)
    fail(ErrorKind::unsupported, "the CUDA backend keeps a session's state as F32, not as ", name_of(s),
         "; run it on the CPU (--device cpu)");
}

class CudaBackend : public Backend {
 public:
  CudaBackend(int index, const Options& options)
      : options_(options),
        name_(concat("cuda:", index, ", ", device_name(index))),
        queue_(std::make_shared<Queue>(index)),
        decode_(queue_, options),
        prefill_(queue_, options.mma) {
    if (options.mma == Mma::warpgroup && !has_warpgroups(index)) {
      fail(ErrorKind::unsupported, name_,
           ": no products by warpgroups: they need compute capability 9.0, and 90a "
           "among the architectures of the build");
    }
    if (options.overlap && !can_overlap(index))
      fail(ErrorKind::unsupported, name_, ": kernels that overlap need compute capability 9.0");
  }

  std::string name() const override { return name_; }

  int64_t prefill_tokens() const override { return kPrefillTokens; }

  MemoryNeed memory(const Dimensions& dims, DType dtype, int64_t tokens, DType s) const override {
    require_float_state(s);
    const Sizes sizes = sizes_of(dims);
    const int64_t longest = std::clamp<int64_t>(tokens, 1, kPrefillTokens);
    return {packed_bytes(dims, dtype), DeviceState::bytes_for(sizes),
            decode_bytes(sizes, 1) + prefill_bytes(sizes, dtype, longest, longest)};
  }

  std::shared_ptr<const Packed> pack(const Parameters& parameters, DType dtype) override {
    const std::lock_guard lock(*mutex_);
    queue_->select();
    return pack_parameters(contiguous(parameters), dtype, queue_->stream);
  }

  std::unique_ptr<State> new_state(const Packed& packed, const StateOptions& options) override {
    require_float_state(options.s);
    return std::make_unique<DeviceState>(static_cast<const PackedParameters&>(packed).sizes, queue_,
                                         options.horizons);
  }

  std::unique_ptr<Training> new_training(const Dimensions& dims, const Tensor& freqs,
                                         const TrainingOptions& options) override {
    return make_training(queue_, mutex_, options_, dims, freqs, options);
  }

  void read(const Packed& packed, const Read& read) override {
    refuse_adapters(read);
    if (read.provisional)
      fail(ErrorKind::unsupported, "the CUDA backend reads no provisional tokens; clone the session instead");
    const std::lock_guard lock(*mutex_);
    queue_->select();
    const auto& parameters = static_cast<const PackedParameters&>(packed);
    const bool decode = is_decode(read.segments) && std::ssize(read.segments) < options_.dense_batch;
    if (decode) return decode_.read(parameters, read.segments, read.activity);
    prefill_.read(parameters, read.segments, read.activity);
  }

 private:
  Options options_;
  std::string name_;
  std::shared_ptr<const Queue> queue_;
  // one read at a time: the stream and the working memory are shared
  const std::shared_ptr<std::mutex> mutex_ = std::make_shared<std::mutex>();
  DecodeReader decode_;
  PrefillReader prefill_;
};

}  // namespace

std::shared_ptr<Backend> make_backend(int index, const Options& options) {
  return std::make_shared<CudaBackend>(index, options);
}

}  // namespace bdh::cuda
