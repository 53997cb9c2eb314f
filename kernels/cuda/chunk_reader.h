// Reads chunks of several sequences: cuts what is long, sends the plan to the GPU, brings logits back. Memory
// is kept, so that reading allocates nothing once warm.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/chunk.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sampling.h"
#include "kernels/cuda/state.h"

namespace bdh::cuda {

class ChunkReader {
 public:
  ChunkReader(std::shared_ptr<const Queue> queue, Unit unit) : queue_(std::move(queue)), unit_(unit) {}

  /// As Backend::read_chunk. Returns when the logits that are wanted are there; without any, the next chunk
  /// can be planned while the GPU reads this one.
  void read(const PackedParameters& packed, std::span<const Segment> segments,
            std::span<LayerActivity> activity);

 private:
  // A segment, and how far it was read.
  struct Reading {
    const Segment* segment;
    DeviceState* state;  // null: read at once, nothing kept
    int64_t done = 0;
    int64_t piece = 0;  // tokens in the chunk under way
    void finish_piece() {
      if (state) state->advance(piece);
      done += std::exchange(piece, 0);
    }
    int64_t left() const { return static_cast<int64_t>(segment->tokens.size()) - done; }
  };
  // Where logits of a row of the chunk go, or what is drawn from them.
  struct Wanted {
    int32_t row;
    float* logits;
    Draw* draw;
  };

  // The plan on its way to the GPU: two, so that one is made while the other is read.
  struct Staging {
    PinnedMemory memory;
    Event copied;
  };

  std::vector<Reading> readings_of(const Sizes& sizes, std::span<const Segment> segments);
  void plan(const Sizes& sizes, std::span<Reading> readings);
  void add_piece(Reading& reading, int64_t count, int64_t vocab);
  void prepare(const PackedParameters& packed, bool counting);
  ChunkBuffers send_plan(const PackedParameters& packed, bool counting);
  void bring_wanted(const PackedParameters& packed, const float* x);
  void bring_logits(std::span<const Wanted> wanted, size_t vocab);
  void bring_tokens(std::span<const Wanted> wanted, const DrawRequest* draws, size_t vocab);
  void add_activity(const Sizes& sizes, std::span<LayerActivity> activity);

  std::shared_ptr<const Queue> queue_;
  Unit unit_;
  ChunkPlan plan_;
  std::vector<Wanted> wanted_;
  std::vector<std::unique_ptr<DeviceState>> carriers_;  // of what is cut, where the caller keeps nothing
  DeviceMemory memory_, plan_memory_, logits_memory_, tokens_memory_, counts_;
  std::array<Staging, 2> plan_staging_;
  size_t turn_ = 0;  // of the two
  PinnedMemory logits_staging_, tokens_staging_;
};

}  // namespace bdh::cuda
