// Reads many tokens of several sequences: cuts what is long into chunks, sends each chunk's plan to the GPU,
// fetches what is wanted. Memory is kept, so that reading allocates nothing once warm.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/prefill.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sampling.h"
#include "kernels/cuda/state.h"

namespace bdh::cuda {

class PrefillReader {
 public:
  PrefillReader(std::shared_ptr<const Queue> queue, Mma mma) : queue_(std::move(queue)), mma_(mma) {}

  /// As Backend::read. Returns when what is wanted is there; where nothing is, the next chunk can be planned
  /// while the GPU reads this one.
  void read(const PackedParameters& packed, std::span<const Segment> segments,
            std::span<LayerActivity> activity);

 private:
  // Where logits of a row of the chunk go, and what is drawn from them.
  struct Wanted {
    int32_t row;
    float* logits;  // or null
    Draw* draw;     // or null
    bool draws_on_device() const { return draw && drawn_on_device(*draw); }
  };

  // The plan on its way to the GPU: two, so that one is made while the other is read.
  struct Staging {
    PinnedMemory memory;
    Event copied;
  };

  void begin(const Sizes& sizes, std::span<const Segment> segments);
  void plan(const Sizes& sizes);
  void add_piece(const Segment& segment, int64_t count, int64_t vocab);
  void finish_pieces(int64_t vocab, bool single_rows);
  void prepare(const PackedParameters& packed, bool counting);
  PrefillBuffers send_plan(const PackedParameters& packed, bool counting);
  void fetch_wanted(const PackedParameters& packed, const float* x);
  void fetch(std::span<const Wanted> wanted, const DrawRequest* draws, size_t vocab);
  const int32_t* fetch_tokens(size_t count, const DrawRequest* draws, size_t vocab);
  const float* fetch_logits(size_t count, size_t vocab);
  void add_activity(const Sizes& sizes, std::span<LayerActivity> activity);

  std::shared_ptr<const Queue> queue_;
  Mma mma_;
  std::vector<Segment> left_;  // what is left to read of each segment
  PrefillPlan plan_;           // of the next chunk: pieces of the first of left_ that have tokens
  std::vector<Wanted> wanted_;
  std::vector<std::unique_ptr<DeviceState>> own_states_;  // of what is cut, where the caller keeps nothing
  DeviceMemory memory_, plan_memory_, logits_memory_, tokens_memory_, counts_;
  std::array<Staging, 2> staging_;
  size_t next_staging_ = 0;  // of the two
  PinnedMemory logits_staging_, tokens_staging_;
  Sampler sampler_;  // of what the device does not draw
};

}  // namespace bdh::cuda
