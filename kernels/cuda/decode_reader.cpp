// Inputs and outputs of a decode, and the graphs that were recorded.
#include "kernels/cuda/decode_reader.h"

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

size_t input_bytes(const DecodeBuffers& buffers) {
  return bytes_between(buffers.sequences, buffers.scales + int64_t{buffers.count} * buffers.heads);
}
size_t output_bytes(const DecodeBuffers& buffers) {
  return bytes_between(buffers.logits, buffers.tokens + buffers.count);
}

/// Where a part of the device's memory from `begin` on stands in its copy on the host.
template <class Element>
Element* host_copy(const PinnedMemory& copy, const void* begin, const Element* part) {
  return reinterpret_cast<Element*>(copy.as<char>() + bytes_between(begin, part));
}

bool draws_on_device(const Segment& segment) { return segment.draw && drawn_on_device(*segment.draw); }

DecodeOutputs outputs_of(std::span<const Segment> segments) {
  const auto logits = [](const Segment& segment) {
    return segment.draw ? !draws_on_device(segment) : segment.logits != nullptr;
  };
  return {std::any_of(segments.begin(), segments.end(), logits),
          std::any_of(segments.begin(), segments.end(), draws_on_device)};
}

void add_activity(const DecodeCounts* totals, int count, std::span<LayerActivity> activity) {
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

void DecodeReader::read(const PackedParameters& packed, std::span<const Segment> segments,
                        std::span<LayerActivity> activity) {
  const Range range("decode");
  for (; segments.size() > kMostSequences; segments = segments.subspan(kMostSequences))
    read(packed, segments.first(kMostSequences), activity);
  const int count = static_cast<int>(segments.size());
  if (count == 0) return;
  const DecodeBuffers buffers = prepare(packed.sizes, count);
  put_input(segments, buffers);
  const DecodeOutputs outputs = outputs_of(segments);
  graph_for(packed, buffers, outputs).start(queue_->stream);
  queue_->stream.wait();
  for (const Segment& segment : segments) state_of(segment).advance(1);
  if (!activity.empty()) add_activity(host_copy(output_, buffers.logits, buffers.totals), count, activity);
  take_output(segments, buffers, static_cast<size_t>(packed.sizes.vocab), outputs.logits);
}

// Memory only grows; what was recorded on the old memory is dropped with it. Returns whether it grew.
template <class Memory, class... Name>
bool DecodeReader::grow(Memory& memory, size_t bytes, Name... name) {
  if (bytes <= memory.bytes()) return false;
  graphs_.clear();
  memory = Memory();
  memory = Memory(bytes, name...);
  return true;
}

DecodeBuffers DecodeReader::prepare(const Sizes& sizes, int count) {
  const size_t counters =
      static_cast<size_t>(count) * (static_cast<size_t>(sizes.heads) + 1) * sizeof(unsigned);
  grow(memory_, decode_bytes(sizes, count), "working memory for one token");
  if (grow(arrived_, counters, "counters"))
    check(cudaMemsetAsync(arrived_.as<void>(), 0, arrived_.bytes(), queue_->stream.get()),
          "clearing GPU memory");
  DecodeBuffers buffers = decode_buffers(sizes, count, memory_.as<void>());
  buffers.arrived = arrived_.as<unsigned>();
  buffers.shared_lists = count >= shared_batch_;
  buffers.overlap = overlap_;
  grow(input_, input_bytes(buffers));
  grow(output_, output_bytes(buffers));
  return buffers;
}

void DecodeReader::put_input(std::span<const Segment> segments, const DecodeBuffers& buffers) {
  auto* sequences = host_copy(input_, buffers.sequences, buffers.sequences);
  auto* draws = host_copy(input_, buffers.sequences, buffers.draws);
  auto* scales = const_cast<Scales*>(host_copy(input_, buffers.sequences, buffers.scales));
  for (size_t i = 0; i < segments.size(); ++i) {
    DeviceState& state = state_of(segments[i]);
    state.rescale_when_due();
    sequences[i] = {state.s(), segments[i].tokens.front(), state.position(), state.damped()};
    if (state.damped())
      state.scales({scales + i * static_cast<size_t>(buffers.heads), static_cast<size_t>(buffers.heads)});
    draws[i] = draws_on_device(segments[i]) ? request_of(*segments[i].draw) : kNoDraw;
  }
}

const Graph& DecodeReader::graph_for(const PackedParameters& packed, const DecodeBuffers& buffers,
                                     DecodeOutputs outputs) {
  const Key key{packed.id, buffers.count, outputs.logits, outputs.draws};
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
    queue_decode(packed, buffers, outputs, stream);
    const char* from = reinterpret_cast<const char*>(buffers.logits);
    const size_t skipped = outputs.logits ? 0 : bytes_between(buffers.logits, buffers.totals);
    check(cudaMemcpyAsync(output_.as<char>() + skipped, from + skipped, output_bytes(buffers) - skipped,
                          cudaMemcpyDeviceToHost, stream),
          "copying logits from the GPU");
  });
  return graphs_.emplace(key, std::move(graph)).first->second;
}

// Logits where they were asked for; where the device did not draw, the host does. `logits_came`: with the
// output.
void DecodeReader::take_output(std::span<const Segment> segments, const DecodeBuffers& buffers, size_t vocab,
                               bool logits_came) {
  auto* logits = host_copy(output_, buffers.logits, buffers.logits);
  const auto* tokens = host_copy(output_, buffers.logits, buffers.tokens);
  for (size_t i = 0; i < segments.size(); ++i, logits += vocab) {
    const Segment& segment = segments[i];
    if (!segment.draw) {
      if (segment.logits) std::copy_n(logits, vocab, segment.logits);
      continue;
    }
    segment.draw->token = draws_on_device(segment) ? tokens[i] : kNotDrawn;
    if (segment.draw->token != kNotDrawn) continue;
    if (!logits_came) {
      check(cudaMemcpyAsync(logits, buffers.logits + i * vocab, vocab * sizeof(float), cudaMemcpyDeviceToHost,
                            queue_->stream.get()),
            "copying logits from the GPU");
      queue_->stream.wait();
    }
    segment.draw->token = sampler_.draw(*segment.draw, {logits, vocab});
  }
}

}  // namespace bdh::cuda
