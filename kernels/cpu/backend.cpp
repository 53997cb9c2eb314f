// The CPU backend: turns the contract's segments into the batches that step and chunk read.
#include "kernels/cpu/backend.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "bdh/base/error.h"
#include "bdh/base/threads.h"
#include "kernels/cpu/chunk.h"
#include "kernels/cpu/embedding.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/step.h"

namespace bdh::cpu {

namespace {

constexpr int64_t kChunkTokens = 256;

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const Options& options) : kernels_(kernels_for(options.isa)), pool_(options.threads) {}

  std::string name() const override {
    return concat("cpu, ", kernels_.name, ", ", pool_.threads(),
                  pool_.threads() == 1 ? " thread" : " threads");
  }

  int64_t chunk_tokens() const override { return kChunkTokens; }

  std::shared_ptr<const Packed> pack(const Parameters& parameters, DType dtype) override {
    const std::lock_guard lock(mutex_);
    return pack_parameters(parameters, dtype, pool_);
  }

  std::unique_ptr<State> new_state(const Packed& packed) override {
    return std::make_unique<SequenceState>(packed.dims, kernels_);
  }

  MemoryNeed memory(const Dimensions& dims, DType dtype, int64_t tokens) const override {
    return {packed_bytes(dims, dtype), SequenceState::bytes_for(dims),
            chunk_bytes(dims, tokens, pool_.threads())};
  }

  void read_token(const Packed& packed, std::span<const Segment> segments,
                  std::span<LayerActivity> activity) override {
    const std::lock_guard lock(mutex_);
    const auto& parameters = static_cast<const PackedParameters&>(packed);
    const auto count = static_cast<int64_t>(segments.size());
    float* x = step_.x.at_least(count * parameters.stride);
    states_.clear();
    tokens_.clear();
    for (const Segment& segment : segments) {
      states_.push_back(static_cast<SequenceState*>(segment.state));
      tokens_.push_back(segment.tokens.front());
    }
    read_step(kernels_, parameters, pool_, step_, {states_, tokens_, x}, activity);
    write_logits(parameters, segments, x);
  }

  void read_chunk(const Packed& packed, std::span<const Segment> segments,
                  std::span<LayerActivity> activity) override {
    const std::lock_guard lock(mutex_);
    const auto& parameters = static_cast<const PackedParameters&>(packed);
    segments_.clear();
    int64_t rows = 0;
    for (const Segment& segment : segments) {
      const auto tokens = static_cast<int64_t>(segment.tokens.size());
      segments_.push_back({static_cast<SequenceState*>(segment.state), rows, tokens});
      rows += tokens;
    }
    float* x = chunk_.x.at_least(rows * parameters.stride);
    float* row = x;
    for (const Segment& segment : segments) {
      for (int32_t token : segment.tokens) {
        embed_token(kernels_, parameters, token, row);
        row += parameters.stride;
      }
    }
    read_chunks(kernels_, parameters, pool_, chunk_, {segments_, rows, x}, activity);
    write_logits(parameters, segments, x);
  }

 private:
  // x (rows, stride) holds the segments' rows one after the other.
  void write_logits(const PackedParameters& packed, std::span<const Segment> segments, const float* x) {
    for (const Segment& segment : segments) {
      const auto tokens = static_cast<int64_t>(segment.tokens.size());
      const int64_t rows = segment.all_logits ? tokens : 1;
      if (segment.logits)
        project_logits(kernels_, packed, pool_, x + (tokens - rows) * packed.stride, rows, segment.logits);
      x += tokens * packed.stride;
    }
  }

  const Kernels& kernels_;
  std::mutex mutex_;  // one read at a time: the pool and the scratch memory are shared
  ThreadPool pool_;
  StepScratch step_;
  ChunkScratch chunk_;
  std::vector<SequenceState*> states_;
  std::vector<int32_t> tokens_;
  std::vector<ChunkSegment> segments_;
};

}  // namespace

std::shared_ptr<Backend> make_backend(const Options& options) {
  return std::make_shared<CpuBackend>(options);
}

}  // namespace bdh::cpu
