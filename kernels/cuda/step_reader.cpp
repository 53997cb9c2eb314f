// Inputs and logits of a step, and the graphs that were recorded.
#include "kernels/cuda/step_reader.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace bdh::cuda {

namespace {

constexpr size_t kMostGraphs = 32;
constexpr int kMostSequences = 65535;  // blocks in a grid's third dimension

DeviceState& state_of(const Segment& segment) { return *static_cast<DeviceState*>(segment.state); }

}  // namespace

void StepReader::read(const PackedParameters& packed, std::span<const Segment> segments,
                      std::span<LayerActivity> activity) {
  for (; segments.size() > kMostSequences; segments = segments.subspan(kMostSequences))
    read(packed, segments.first(kMostSequences), activity);
  const int count = static_cast<int>(segments.size());
  if (count == 0) return;
  const StepBuffers buffers = prepare(packed.sizes, count);
  auto* sequences = sequences_.as<Sequence>();
  for (const Segment& segment : segments) {
    DeviceState& state = state_of(segment);
    *sequences++ = {state.s(), segment.tokens.front(), static_cast<int32_t>(state.position())};
  }
  const bool logits =
      std::any_of(segments.begin(), segments.end(), [](const Segment& s) { return s.logits; });
  graph_for(packed, buffers, logits).start(queue_->stream);
  queue_->stream.wait();
  const size_t vocab = static_cast<size_t>(packed.sizes.vocab);
  for (size_t i = 0; i < segments.size(); ++i) {
    if (segments[i].logits)
      std::memcpy(segments[i].logits, logits_.as<float>() + i * vocab, vocab * sizeof(float));
    state_of(segments[i]).advance(1);
  }
  if (!activity.empty()) add_activity(packed.sizes, buffers, activity);
}

// Memory only grows; what was recorded on the old memory is dropped with it. Returns whether it grew.
template <class Memory, class... Name>
bool StepReader::grow(Memory& memory, size_t bytes, Name... name) {
  if (bytes <= memory.bytes()) return false;
  graphs_.clear();
  memory = Memory();
  memory = Memory(bytes, name...);
  return true;
}

StepBuffers StepReader::prepare(const Sizes& sizes, int count) {
  const auto heads = static_cast<size_t>(sizes.heads) + 1, sequences = static_cast<size_t>(count);
  const size_t need = step_bytes(sizes, count),
               logits = sequences * static_cast<size_t>(sizes.vocab) * sizeof(float);
  const size_t counters = sequences * heads * sizeof(unsigned);
  grow(memory_, need, "working memory for one token");
  grow(sequences_, sequences * sizeof(Sequence));
  grow(logits_, logits);
  if (grow(arrived_, counters, "counters"))
    check(cudaMemsetAsync(arrived_.as<void>(), 0, arrived_.bytes(), queue_->stream.get()),
          "clearing GPU memory");
  StepBuffers buffers = step_buffers(sizes, count, memory_.as<void>());
  buffers.arrived = arrived_.as<unsigned>();
  return buffers;
}

const Graph& StepReader::graph_for(const PackedParameters& packed, const StepBuffers& buffers, bool logits) {
  const Key key{packed.id, buffers.count, logits};
  if (const auto found = graphs_.find(key); found != graphs_.end()) return found->second;
  if (graphs_.size() >= kMostGraphs) graphs_.clear();
  cudaStream_t stream = queue_->stream.get();
  Graph graph = Graph::record(queue_->stream, [&] {
    const auto count = static_cast<size_t>(buffers.count);
    check(cudaMemcpyAsync(const_cast<Sequence*>(buffers.sequences), sequences_.as<void>(),
                          count * sizeof(Sequence), cudaMemcpyHostToDevice, stream),
          "copying tokens to the GPU");
    queue_step(packed, buffers, logits, stream);
    if (!logits) return;
    check(cudaMemcpyAsync(logits_.as<void>(), buffers.logits,
                          count * static_cast<size_t>(packed.sizes.vocab) * sizeof(float),
                          cudaMemcpyDeviceToHost, stream),
          "copying logits from the GPU");
  });
  return graphs_.emplace(key, std::move(graph)).first->second;
}

void StepReader::add_activity(const Sizes& sizes, const StepBuffers& buffers,
                              std::span<LayerActivity> activity) {
  const size_t blocks =
      static_cast<size_t>(buffers.count) * static_cast<size_t>(sizes.heads * blocks_per_head(sizes));
  std::vector<StepCounts> counts(static_cast<size_t>(sizes.layers) * blocks);
  check(cudaMemcpyAsync(counts.data(), buffers.counts, counts.size() * sizeof(StepCounts),
                        cudaMemcpyDeviceToHost, queue_->stream.get()),
        "copying counts from the GPU");
  queue_->stream.wait();
  for (size_t i = 0; i < counts.size(); ++i) {
    LayerActivity& layer = activity[i / blocks];
    layer.n += counts[i].n;
    layer.pairs += counts[i].pairs;
    layer.g += counts[i].g;
  }
  for (LayerActivity& layer : activity) layer.tokens += buffers.count;
}

}  // namespace bdh::cuda
