// Inputs and outputs of a step, and the graphs that were recorded.
#include "kernels/cuda/step_reader.h"

#include <algorithm>
#include <cstring>

namespace bdh::cuda {

namespace {

constexpr size_t kMostGraphs = 32;
constexpr int kMostSequences = 65535;  // blocks in a grid's third dimension

DeviceState& state_of(const Segment& segment) { return *static_cast<DeviceState*>(segment.state); }

size_t bytes_between(const void* begin, const void* end) {
  return static_cast<size_t>(static_cast<const char*>(end) - static_cast<const char*>(begin));
}

size_t input_bytes(const StepBuffers& buffers) {
  return bytes_between(buffers.sequences, buffers.draws + buffers.count);
}
size_t output_bytes(const StepBuffers& buffers) {
  return bytes_between(buffers.logits, buffers.tokens + buffers.count);
}

/// Where a part of the device's memory from `begin` on stands in its copy on the host.
template <class Element>
Element* host_copy(const PinnedMemory& copy, const void* begin, const Element* part) {
  return reinterpret_cast<Element*>(copy.as<char>() + bytes_between(begin, part));
}

StepGives gives_of(std::span<const Segment> segments) {
  const auto draws = [](const Segment& segment) { return segment.logits && segment.draw; };
  const auto logits = [](const Segment& segment) { return segment.logits && !segment.draw; };
  return {std::any_of(segments.begin(), segments.end(), logits),
          std::any_of(segments.begin(), segments.end(), draws)};
}

void add_activity(const StepCounts* totals, int count, std::span<LayerActivity> activity) {
  for (LayerActivity& layer : activity) {
    layer.tokens += count;
    for (int i = 0; i < count; ++i, ++totals) {
      layer.n += totals->n;
      layer.pairs += totals->pairs;
      layer.g += totals->g;
    }
  }
}

}  // namespace

void StepReader::read(const PackedParameters& packed, std::span<const Segment> segments,
                      std::span<LayerActivity> activity) {
  const Range range("step");
  for (; segments.size() > kMostSequences; segments = segments.subspan(kMostSequences))
    read(packed, segments.first(kMostSequences), activity);
  const int count = static_cast<int>(segments.size());
  if (count == 0) return;
  const StepBuffers buffers = prepare(packed.sizes, count);
  put_input(segments, buffers);
  graph_for(packed, buffers, gives_of(segments)).start(queue_->stream);
  queue_->stream.wait();
  for (const Segment& segment : segments) state_of(segment).advance(1);
  take_output(packed, segments, buffers);
  if (!activity.empty()) add_activity(host_copy(output_, buffers.logits, buffers.totals), count, activity);
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
  const size_t counters =
      static_cast<size_t>(count) * (static_cast<size_t>(sizes.heads) + 1) * sizeof(unsigned);
  grow(memory_, step_bytes(sizes, count), "working memory for one token");
  if (grow(arrived_, counters, "counters"))
    check(cudaMemsetAsync(arrived_.as<void>(), 0, arrived_.bytes(), queue_->stream.get()),
          "clearing GPU memory");
  StepBuffers buffers = step_buffers(sizes, count, memory_.as<void>());
  buffers.arrived = arrived_.as<unsigned>();
  buffers.shared_lists = count >= shared_batch_;
  buffers.overlap = overlap_;
  grow(input_, input_bytes(buffers));
  grow(output_, output_bytes(buffers));
  return buffers;
}

void StepReader::put_input(std::span<const Segment> segments, const StepBuffers& buffers) {
  auto* sequences = host_copy(input_, buffers.sequences, buffers.sequences);
  auto* draws = host_copy(input_, buffers.sequences, buffers.draws);
  for (size_t i = 0; i < segments.size(); ++i) {
    DeviceState& state = state_of(segments[i]);
    const Draw none{.greedy = true, .vocab = 1};
    sequences[i] = {state.s(), segments[i].tokens.front(), static_cast<int32_t>(state.position())};
    draws[i] = request_of(segments[i].draw ? *segments[i].draw : none);
  }
}

const Graph& StepReader::graph_for(const PackedParameters& packed, const StepBuffers& buffers,
                                   StepGives gives) {
  const Key key{packed.id, buffers.count, gives.logits, gives.draws};
  if (const auto found = graphs_.find(key); found != graphs_.end()) return found->second;
  if (graphs_.size() >= kMostGraphs) graphs_.clear();
  // What no kernel writes, between the arrays, is copied with them: initcheck would ask what is in it.
  check(cudaMemsetAsync(buffers.logits, 0, output_bytes(buffers), queue_->stream.get()),
        "clearing GPU memory");
  const Stream own;  // on which no other thread makes a session meanwhile
  cudaStream_t stream = own.get();
  Graph graph = Graph::record(own, [&] {
    check(cudaMemcpyAsync(const_cast<Sequence*>(buffers.sequences), input_.as<void>(), input_bytes(buffers),
                          cudaMemcpyHostToDevice, stream),
          "copying tokens to the GPU");
    queue_step(packed, buffers, gives, stream);
    const char* from = reinterpret_cast<const char*>(buffers.logits);
    const size_t skipped = gives.logits ? 0 : bytes_between(buffers.logits, buffers.totals);
    check(cudaMemcpyAsync(output_.as<char>() + skipped, from + skipped, output_bytes(buffers) - skipped,
                          cudaMemcpyDeviceToHost, stream),
          "copying logits from the GPU");
  });
  return graphs_.emplace(key, std::move(graph)).first->second;
}

// Logits where they were asked for, and where a draw that was asked for was not made.
void StepReader::take_output(const PackedParameters& packed, std::span<const Segment> segments,
                             const StepBuffers& buffers) {
  const StepGives gives = gives_of(segments);
  const size_t vocab = static_cast<size_t>(packed.sizes.vocab), row = vocab * sizeof(float);
  const auto* logits = host_copy(output_, buffers.logits, buffers.logits);
  const auto* tokens = host_copy(output_, buffers.logits, buffers.tokens);
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    if (!segment.logits) continue;
    if (segment.draw) segment.draw->token = tokens[i];
    if (segment.draw && tokens[i] != kNotDrawn) continue;
    if (gives.logits) {
      std::memcpy(segment.logits, logits + i * vocab, row);
      continue;
    }
    check(cudaMemcpyAsync(segment.logits, buffers.logits + i * vocab, row, cudaMemcpyDeviceToHost,
                          queue_->stream.get()),
          "copying logits from the GPU");
    queue_->stream.wait();
  }
}

}  // namespace bdh::cuda
