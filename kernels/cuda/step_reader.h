// Reads one token of several sequences: inputs to the GPU, one graph, logits back. Graphs and memory are
// kept, so that reading allocates nothing once warm. Knows states and the contract's segments.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <tuple>

#include "kernels/backend.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/state.h"
#include "kernels/cuda/step.h"

namespace bdh::cuda {

class StepReader {
 public:
  explicit StepReader(std::shared_ptr<const Queue> queue) : queue_(std::move(queue)) {}

  /// As Backend::read_token.
  void read(const PackedParameters& packed, std::span<const Segment> segments,
            std::span<LayerActivity> activity);

 private:
  using Key = std::tuple<uint64_t, int, bool>;  // packed.id, sequences, with logits

  template <class Memory, class... Name>
  bool grow(Memory& memory, size_t bytes, Name... name);
  StepBuffers prepare(const Sizes& sizes, int count);
  const Graph& graph_for(const PackedParameters& packed, const StepBuffers& buffers, bool logits);
  void add_activity(const Sizes& sizes, const StepBuffers& buffers, std::span<LayerActivity> activity);

  std::shared_ptr<const Queue> queue_;
  DeviceMemory memory_, arrived_;
  PinnedMemory sequences_, logits_;
  std::map<Key, Graph> graphs_;
};

}  // namespace bdh::cuda
