// Plans chunks, sends their plans, and fetches what is wanted of them.
#include "kernels/cuda/prefill_reader.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/layout.h"
#include "kernels/cuda/logits.h"

namespace bdh::cuda {

namespace {

constexpr size_t kLogitRows = 256;  // fetched at once

// The plan's arrays in one block of memory, the same on both sides.
struct PlanArrays {
  PrefillRow* rows;
  PrefillSegment* segments;
  RowTile* tiles;
  float* weights;
  int32_t* wanted;
  DrawRequest* draws;  // one for each wanted row
};

PlanArrays lay_out(const PrefillPlan& plan, size_t wanted, Layout& layout) {
  return {layout.take<PrefillRow>(static_cast<int64_t>(plan.rows.size())),
          layout.take<PrefillSegment>(static_cast<int64_t>(plan.segments.size())),
          layout.take<RowTile>(static_cast<int64_t>(plan.tiles.size())),
          layout.take<float>(static_cast<int64_t>(plan.weights.size())),
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

void PrefillReader::read(const PackedParameters& packed, std::span<const Segment> segments,
                         std::span<LayerActivity> activity) {
  begin(packed.sizes, segments);
  for (;;) {
    plan(packed.sizes);
    if (plan_.rows.empty()) return;
    prepare(packed, !activity.empty());
    const PrefillBuffers buffers = send_plan(packed, !activity.empty());
    queue_prefill(packed, buffers, queue_->stream.get());
    finish_pieces(packed.sizes.vocab, buffers.single_rows);
    if (!activity.empty()) add_activity(packed.sizes, activity);
    fetch_wanted(packed, buffers.x);
  }
}

void PrefillReader::begin(const Sizes& sizes, std::span<const Segment> segments) {
  left_.assign(segments.begin(), segments.end());
  size_t used = 0;
  for (Segment& segment : left_) {
    if (segment.state || segment.tokens.size() <= kPrefillTokens) continue;
    if (used == own_states_.size()) own_states_.emplace_back();
    std::unique_ptr<DeviceState>& state = own_states_[used++];
    if (state && state->sizes() == sizes) {
      state->clear();
    } else {
      state.reset();
      state = std::make_unique<DeviceState>(sizes, queue_);
    }
    segment.state = state.get();
  }
}

// The next rows of the first segments that have some left.
void PrefillReader::plan(const Sizes& sizes) {
  plan_.rows.clear();
  plan_.segments.clear();
  plan_.weights.clear();
  wanted_.clear();
  for (const Segment& segment : left_) {
    const int64_t room = kPrefillRows - static_cast<int64_t>(plan_.rows.size());
    const int64_t count = std::min<int64_t>(static_cast<int64_t>(segment.tokens.size()), kPrefillTokens);
    const bool fits =
        count <= room && (plan_.segments.size() + 1) * static_cast<size_t>(sizes.heads) <= kMostBlocks;
    if (count == 0) continue;
    if (!fits && !plan_.rows.empty()) break;
    add_piece(segment, count, sizes.vocab);
  }
}

void PrefillReader::add_piece(const Segment& segment, int64_t count, int64_t vocab) {
  auto* state = static_cast<DeviceState*>(segment.state);
  const bool damped = state && state->damped();
  const auto which = static_cast<int32_t>(plan_.segments.size());
  const int64_t position = state ? state->position() : 0, last = std::ssize(segment.tokens) - 1;
  const auto first = static_cast<int32_t>(plan_.rows.size());
  const bool reads_state = position > 0;
  for (int64_t i = 0; i < count; ++i) {
    Draw* draw = i == last ? segment.draw : nullptr;
    float* logits = !segment.logits      ? nullptr
                    : segment.all_logits ? segment.logits + i * vocab
                    : i == last && !draw ? segment.logits
                                         : nullptr;
    if (draw || logits) wanted_.push_back({static_cast<int32_t>(plan_.rows.size()), logits, draw});
    plan_.rows.push_back({segment.tokens[static_cast<size_t>(i)], position + i, reads_state, which, damped});
  }
  const int32_t weights = damped ? static_cast<int32_t>(plan_.weights.size()) : -1;
  plan_.segments.push_back(
      {state ? state->s() : nullptr, first, static_cast<int32_t>(count), reads_state, weights});
  if (!damped) return;
  state->rescale_when_due();
  state->append_weights(count, plan_.weights);
}

// The chunk is on its way: its states stand where it ends, and it is no longer left to read.
void PrefillReader::finish_pieces(int64_t vocab, bool single_rows) {
  auto segment = left_.begin();
  for (const PrefillSegment& piece : plan_.segments) {
    while (segment->tokens.empty()) ++segment;
    if (auto* state = static_cast<DeviceState*>(segment->state)) {
      state->advance(piece.count);
      if (!single_rows) state->rescaled();
    }
    if (segment->logits && segment->all_logits) segment->logits += piece.count * vocab;
    segment->tokens = segment->tokens.subspan(static_cast<size_t>(piece.count));
    ++segment;
  }
}

// All the memory of a chunk, before anything is queued: where it is refused, nothing has been read.
void PrefillReader::prepare(const PackedParameters& packed, bool counting) {
  const size_t rows = std::min(kLogitRows, wanted_.size()),
               logits = rows * static_cast<size_t>(packed.sizes.vocab) * sizeof(float);
  plan_tiles(plan_, rows_of_tile(activation_dtype(packed.sizes, packed.dtype)));
  Layout size(nullptr);
  lay_out(plan_, wanted_.size(), size);
  grow(memory_,
       prefill_bytes(packed.sizes, packed.dtype, static_cast<int64_t>(plan_.rows.size()), plan_.longest),
       working);
  for (Staging& staging : staging_) {
    if (staging.memory.bytes() < size.bytes()) staging.copied.wait();
    grow(staging.memory, size.bytes(), pinned);
  }
  next_staging_ = 1 - next_staging_;
  staging_[next_staging_].copied.wait();
  grow(plan_memory_, size.bytes(), working);
  grow(logits_memory_, logits, working);
  grow(logits_staging_, logits, pinned);
  grow(tokens_memory_, rows * sizeof(int32_t), working);
  grow(tokens_staging_, rows * sizeof(int32_t), pinned);
  if (counting) grow(counts_, static_cast<size_t>(packed.sizes.layers) * sizeof(PrefillCounts), working);
}

PrefillBuffers PrefillReader::send_plan(const PackedParameters& packed, bool counting) {
  cudaStream_t stream = queue_->stream.get();
  const auto rows = static_cast<int>(plan_.rows.size());
  const Staging& staged = staging_[next_staging_];
  Layout staging(staged.memory.as<void>()), there(plan_memory_.as<void>());
  const PlanArrays from = lay_out(plan_, wanted_.size(), staging), to = lay_out(plan_, wanted_.size(), there);
  copy_to(from.rows, plan_.rows);
  copy_to(from.segments, plan_.segments);
  copy_to(from.tiles, plan_.tiles);
  copy_to(from.weights, plan_.weights);
  std::transform(wanted_.begin(), wanted_.end(), from.wanted, [](const Wanted& row) { return row.row; });
  std::transform(wanted_.begin(), wanted_.end(), from.draws,
                 [](const Wanted& row) { return row.draws_on_device() ? request_of(*row.draw) : kNoDraw; });
  check(cudaMemcpyAsync(plan_memory_.as<void>(), staged.memory.as<void>(), there.bytes(),
                        cudaMemcpyHostToDevice, stream),
        "copying tokens to the GPU");
  staged.copied.record(queue_->stream);

  PrefillBuffers buffers =
      prefill_buffers(packed.sizes, packed.dtype, rows, plan_.longest, memory_.as<void>());
  buffers.mma = mma_;
  buffers.single_rows = plan_.single_rows(packed.sizes);
  buffers.row = to.rows;
  buffers.segment = to.segments;
  buffers.tile = to.tiles;
  buffers.weights = to.weights;
  buffers.damped = !plan_.weights.empty();
  buffers.segments = static_cast<int>(plan_.segments.size());
  buffers.row_tiles = static_cast<int>(plan_.tiles.size());
  if (!counting) return buffers;
  check(cudaMemsetAsync(counts_.as<void>(), 0, counts_.bytes(), stream), "clearing GPU memory");
  buffers.counts = counts_.as<PrefillCounts>();
  return buffers;
}

// Waits for the chunk where something is wanted.
void PrefillReader::fetch_wanted(const PackedParameters& packed, const float* x) {
  const auto vocab = static_cast<size_t>(packed.sizes.vocab);
  Layout there(plan_memory_.as<void>());
  const PlanArrays plan = lay_out(plan_, wanted_.size(), there);
  for (size_t first = 0; first < wanted_.size(); first += kLogitRows) {
    const std::span wanted = std::span(wanted_).subspan(first, std::min(kLogitRows, wanted_.size() - first));
    project_logits(packed, x, plan.wanted + first, static_cast<int>(wanted.size()),
                   logits_memory_.as<float>(), queue_->stream.get());
    fetch(wanted, plan.draws + first, vocab);
  }
}

// Drawn tokens; logits where they were asked for, and where the device did not draw: the host does.
void PrefillReader::fetch(std::span<const Wanted> wanted, const DrawRequest* draws, size_t vocab) {
  const auto draws_on_device = [](const Wanted& row) { return row.draws_on_device(); };
  const auto needs_logits = [](const Wanted& row) {
    return row.logits || (row.draw && row.draw->token == kNotDrawn);
  };
  const bool any = std::any_of(wanted.begin(), wanted.end(), draws_on_device);
  const int32_t* tokens = any ? fetch_tokens(wanted.size(), draws, vocab) : nullptr;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].draw) wanted[i].draw->token = wanted[i].draws_on_device() ? tokens[i] : kNotDrawn;
  }
  if (std::none_of(wanted.begin(), wanted.end(), needs_logits)) return;
  const float* logits = fetch_logits(wanted.size(), vocab);
  for (const Wanted& row : wanted) {
    if (row.logits) std::copy_n(logits, vocab, row.logits);
    if (row.draw && row.draw->token == kNotDrawn) row.draw->token = sampler_.draw(*row.draw, {logits, vocab});
    logits += vocab;
  }
}

const int32_t* PrefillReader::fetch_tokens(size_t count, const DrawRequest* draws, size_t vocab) {
  cudaStream_t stream = queue_->stream.get();
  draw_tokens(logits_memory_.as<float>(), static_cast<int>(vocab), draws, static_cast<int>(count),
              tokens_memory_.as<int32_t>(), stream);
  check(cudaMemcpyAsync(tokens_staging_.as<void>(), tokens_memory_.as<void>(), count * sizeof(int32_t),
                        cudaMemcpyDeviceToHost, stream),
        "copying tokens from the GPU");
  queue_->stream.wait();
  return tokens_staging_.as<int32_t>();
}

const float* PrefillReader::fetch_logits(size_t count, size_t vocab) {
  check(cudaMemcpyAsync(logits_staging_.as<void>(), logits_memory_.as<void>(), count * vocab * sizeof(float),
                        cudaMemcpyDeviceToHost, queue_->stream.get()),
        "copying logits from the GPU");
  queue_->stream.wait();
  return logits_staging_.as<float>();
}

void PrefillReader::add_activity(const Sizes& sizes, std::span<LayerActivity> activity) {
  std::vector<PrefillCounts> counts(static_cast<size_t>(sizes.layers));
  check(cudaMemcpyAsync(counts.data(), counts_.as<void>(), counts.size() * sizeof(PrefillCounts),
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
