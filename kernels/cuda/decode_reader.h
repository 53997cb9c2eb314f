// Reads one token of several sequences: inputs to the GPU, one graph, logits or drawn tokens back. Graphs and
// memory are kept, so that reading allocates nothing once warm.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <tuple>

#include "kernels/backend.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/decode.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/state.h"

namespace bdh::cuda {

class DecodeReader {
 public:
  /// Of the options those of decode.
  DecodeReader(std::shared_ptr<const Queue> queue, const Options& options)
      : queue_(std::move(queue)), shared_batch_(options.shared_batch), overlap_(options.overlap) {}

  /// As Backend::read, for segments that is_decode.
  void read(const PackedParameters& packed, std::span<const Segment> segments,
            std::span<LayerActivity> activity);

 private:
  using Key = std::tuple<uint64_t, int, bool, bool>;  // packed.id, sequences, DecodeOutputs

  template <class Memory, class... Name>
  bool grow(Memory& memory, size_t bytes, Name... name);
  DecodeBuffers prepare(const Sizes& sizes, int count);
  void put_input(std::span<const Segment> segments, const DecodeBuffers& buffers);
  const Graph& graph_for(const PackedParameters& packed, const DecodeBuffers& buffers, DecodeOutputs outputs);
  void take_output(std::span<const Segment> segments, const DecodeBuffers& buffers, size_t vocab,
                   bool logits_came);

  std::shared_ptr<const Queue> queue_;
  int shared_batch_;
  bool overlap_;
  DeviceMemory memory_, arrived_;
  PinnedMemory input_, output_;  // parts of DecodeBuffers, laid out as on the device
  std::map<Key, Graph> graphs_;
  Sampler sampler_;  // of what the device does not draw
};

}  // namespace bdh::cuda
