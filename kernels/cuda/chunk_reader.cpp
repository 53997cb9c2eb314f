// Plans chunks, uploads the plan, and copies the logits that are wanted.
#include "kernels/cuda/chunk_reader.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/embedding.h"
#include "kernels/cuda/layout.h"

namespace bdh::cuda {

namespace {

constexpr size_t kLogitRows = 256;  // brought back at once

// The plan's arrays in one block of memory, the same on both sides.
struct PlanArrays {
  ChunkRow* rows;
  ChunkSegment* segments;
  RowTile* tiles;
  int32_t* wanted;
  DrawRequest* draws;  // one for each wanted row
};

PlanArrays lay_out(const ChunkPlan& plan, size_t wanted, Layout& layout) {
  return {layout.take<ChunkRow>(static_cast<int64_t>(plan.rows.size())),
          layout.take<ChunkSegment>(static_cast<int64_t>(plan.segments.size())),
          layout.take<RowTile>(static_cast<int64_t>(plan.tiles.size())),
          layout.take<int32_t>(static_cast<int64_t>(wanted)),
          layout.take<DrawRequest>(static_cast<int64_t>(wanted))};
}

template <class Element>
void copy_to(Element* to, const std::vector<Element>& from) {
  std::copy(from.begin(), from.end(), to);
}

template <class Memory>
void grow(Memory& memory, size_t bytes, Memory (*make)(size_t)) {
  if (bytes <= memory.bytes()) return;
  memory = Memory();
  memory = make(bytes);
}

DeviceMemory working(size_t bytes) { return {bytes, "working memory for a chunk"}; }
PinnedMemory pinned(size_t bytes) { return PinnedMemory(bytes); }

}  // namespace

void ChunkReader::read(const PackedParameters& packed, std::span<const Segment> segments,
                       std::span<LayerActivity> activity) {
  std::vector<Reading> readings = readings_of(packed.sizes, segments);
  for (;;) {
    plan(packed.sizes, readings);
    if (plan_.rows.empty()) return;
    prepare(packed, !activity.empty());
    const ChunkBuffers buffers = send_plan(packed, !activity.empty());
    queue_chunk(packed, buffers, queue_->stream.get());
    bring_wanted(packed, buffers.x);
    for (Reading& reading : readings) reading.finish_piece();
    if (!activity.empty()) add_activity(packed.sizes, activity);
  }
}

std::vector<ChunkReader::Reading> ChunkReader::readings_of(const Sizes& sizes,
                                                           std::span<const Segment> segments) {
  std::vector<Reading> readings;
  size_t carried = 0;
  for (const Segment& segment : segments) {
    readings.push_back({&segment, static_cast<DeviceState*>(segment.state)});
    if (segment.state || segment.tokens.size() <= kChunkTokens) continue;
    if (carried == carriers_.size()) carriers_.emplace_back();
    std::unique_ptr<DeviceState>& carrier = carriers_[carried++];
    if (carrier && carrier->sizes() == sizes) {
      carrier->clear();
    } else {
      carrier.reset();
      carrier = std::make_unique<DeviceState>(sizes, queue_);
    }
    readings.back().state = carrier.get();
  }
  return readings;
}

// The next rows of the first readings that have some left.
void ChunkReader::plan(const Sizes& sizes, std::span<Reading> readings) {
  plan_.rows.clear();
  plan_.segments.clear();
  wanted_.clear();
  for (Reading& reading : readings) {
    const int64_t room = kChunkRows - static_cast<int64_t>(plan_.rows.size());
    const int64_t count = std::min<int64_t>(reading.left(), kChunkTokens);
    const bool fits =
        count <= room && (plan_.segments.size() + 1) * static_cast<size_t>(sizes.heads) <= kMostBlocks;
    if (count == 0) continue;
    if (!fits && !plan_.rows.empty()) break;
    add_piece(reading, count, sizes.vocab);
  }
}

void ChunkReader::add_piece(Reading& reading, int64_t count, int64_t vocab) {
  const Segment& segment = *reading.segment;
  const int64_t position = reading.state ? reading.state->position() : 0,
                length = static_cast<int64_t>(segment.tokens.size());
  const auto first = static_cast<int32_t>(plan_.rows.size());
  const bool recalls = position > 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = reading.done + i;
    const bool want = segment.logits && (segment.all_logits || at == length - 1);
    if (want)
      wanted_.push_back({static_cast<int32_t>(plan_.rows.size()),
                         segment.logits + (segment.all_logits ? at * vocab : 0),
                         at == length - 1 && !segment.all_logits ? segment.draw : nullptr});
    plan_.rows.push_back(
        {segment.tokens[static_cast<size_t>(at)], static_cast<int32_t>(position + i), recalls});
  }
  plan_.segments.push_back(
      {reading.state ? reading.state->s() : nullptr, first, static_cast<int32_t>(count), recalls});
  reading.piece = count;
}

// All the memory of a chunk, before anything is queued: where it is refused, nothing has been read.
void ChunkReader::prepare(const PackedParameters& packed, bool counting) {
  const size_t rows = std::min(kLogitRows, wanted_.size()),
               logits = rows * static_cast<size_t>(packed.sizes.vocab) * sizeof(float);
  plan_tiles(plan_, rows_of_tile(activation_dtype(packed.sizes, packed.dtype)));
  Layout size(nullptr);
  lay_out(plan_, wanted_.size(), size);
  grow(memory_,
       chunk_bytes(packed.sizes, packed.dtype, static_cast<int64_t>(plan_.rows.size()), plan_.longest),
       working);
  for (Staging& staging : plan_staging_) {
    if (staging.memory.bytes() < size.bytes()) staging.copied.wait();
    grow(staging.memory, size.bytes(), pinned);
  }
  turn_ = 1 - turn_;
  plan_staging_[turn_].copied.wait();
  grow(plan_memory_, size.bytes(), working);
  grow(logits_memory_, logits, working);
  grow(logits_staging_, logits, pinned);
  grow(tokens_memory_, rows * sizeof(int32_t), working);
  grow(tokens_staging_, rows * sizeof(int32_t), pinned);
  if (counting) grow(counts_, static_cast<size_t>(packed.sizes.layers) * sizeof(ChunkCounts), working);
}

ChunkBuffers ChunkReader::send_plan(const PackedParameters& packed, bool counting) {
  cudaStream_t stream = queue_->stream.get();
  const auto rows = static_cast<int>(plan_.rows.size());
  const Staging& staged = plan_staging_[turn_];
  Layout staging(staged.memory.as<void>()), there(plan_memory_.as<void>());
  const PlanArrays from = lay_out(plan_, wanted_.size(), staging), to = lay_out(plan_, wanted_.size(), there);
  copy_to(from.rows, plan_.rows);
  copy_to(from.segments, plan_.segments);
  copy_to(from.tiles, plan_.tiles);
  std::transform(wanted_.begin(), wanted_.end(), from.wanted, [](const Wanted& row) { return row.row; });
  std::transform(wanted_.begin(), wanted_.end(), from.draws,
                 [](const Wanted& row) { return request_of(row.draw ? *row.draw : Draw{}); });
  check(cudaMemcpyAsync(plan_memory_.as<void>(), staged.memory.as<void>(), there.bytes(),
                        cudaMemcpyHostToDevice, stream),
        "copying tokens to the GPU");
  staged.copied.record(queue_->stream);

  ChunkBuffers buffers = chunk_buffers(packed.sizes, packed.dtype, rows, plan_.longest, memory_.as<void>());
  buffers.unit = unit_;
  buffers.single_rows = plan_.single_rows(packed.sizes);
  buffers.row = to.rows;
  buffers.segment = to.segments;
  buffers.tile = to.tiles;
  buffers.segments = static_cast<int>(plan_.segments.size());
  buffers.row_tiles = static_cast<int>(plan_.tiles.size());
  if (!counting) return buffers;
  check(cudaMemsetAsync(counts_.as<void>(), 0, counts_.bytes(), stream), "clearing GPU memory");
  buffers.counts = counts_.as<ChunkCounts>();
  return buffers;
}

// Waits for the chunk where something is wanted.
void ChunkReader::bring_wanted(const PackedParameters& packed, const float* x) {
  const auto vocab = static_cast<size_t>(packed.sizes.vocab);
  Layout there(plan_memory_.as<void>());
  const PlanArrays plan = lay_out(plan_, wanted_.size(), there);
  const auto drawn = [](const Wanted& row) { return row.draw != nullptr; };
  for (size_t first = 0; first < wanted_.size(); first += kLogitRows) {
    const std::span wanted = std::span(wanted_).subspan(first, std::min(kLogitRows, wanted_.size() - first));
    project_logits(packed, x, plan.wanted + first, static_cast<int>(wanted.size()),
                   logits_memory_.as<float>(), queue_->stream.get());
    if (std::all_of(wanted.begin(), wanted.end(), drawn)) {
      bring_tokens(wanted, plan.draws + first, vocab);
    } else {
      bring_logits(wanted, vocab);
    }
  }
}

void ChunkReader::bring_logits(std::span<const Wanted> wanted, size_t vocab) {
  const size_t bytes = wanted.size() * vocab * sizeof(float);
  check(cudaMemcpyAsync(logits_staging_.as<void>(), logits_memory_.as<void>(), bytes, cudaMemcpyDeviceToHost,
                        queue_->stream.get()),
        "copying logits from the GPU");
  queue_->stream.wait();
  for (size_t i = 0; i < wanted.size(); ++i)
    std::copy_n(logits_staging_.as<float>() + i * vocab, vocab, wanted[i].logits);
}

// Logits come too where a draw was not made.
void ChunkReader::bring_tokens(std::span<const Wanted> wanted, const DrawRequest* draws, size_t vocab) {
  cudaStream_t stream = queue_->stream.get();
  const size_t bytes = wanted.size() * sizeof(int32_t);
  draw_tokens(logits_memory_.as<float>(), static_cast<int>(vocab), draws, static_cast<int>(wanted.size()),
              tokens_memory_.as<int32_t>(), stream);
  check(cudaMemcpyAsync(tokens_staging_.as<void>(), tokens_memory_.as<void>(), bytes, cudaMemcpyDeviceToHost,
                        stream),
        "copying tokens from the GPU");
  queue_->stream.wait();
  const auto* tokens = tokens_staging_.as<int32_t>();
  for (size_t i = 0; i < wanted.size(); ++i) wanted[i].draw->token = tokens[i];
  if (std::find(tokens, tokens + wanted.size(), kNotDrawn) != tokens + wanted.size())
    bring_logits(wanted, vocab);
}

void ChunkReader::add_activity(const Sizes& sizes, std::span<LayerActivity> activity) {
  std::vector<ChunkCounts> counts(static_cast<size_t>(sizes.layers));
  check(cudaMemcpyAsync(counts.data(), counts_.as<void>(), counts.size() * sizeof(ChunkCounts),
                        cudaMemcpyDeviceToHost, queue_->stream.get()),
        "copying counts from the GPU");
  queue_->stream.wait();
  const auto rows = static_cast<int64_t>(plan_.rows.size());
  for (size_t i = 0; i < counts.size(); ++i) {
    LayerActivity& layer = activity[i];
    layer.tokens += rows;
    layer.v_tokens += rows;
    layer.n += static_cast<int64_t>(counts[i].n);
    layer.pairs += static_cast<int64_t>(counts[i].pairs);
    layer.v += static_cast<int64_t>(counts[i].v);
    layer.g += static_cast<int64_t>(counts[i].g);
  }
}

}  // namespace bdh::cuda
