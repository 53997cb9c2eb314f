// The CPU backend: chooses decode or prefill, then logits and draws.
#include "kernels/cpu/backend.h"

#include <algorithm>
#include <cstring>
#include <mutex>

#include "bdh/base/error.h"
#include "bdh/base/threads.h"
#include "kernels/cpu/decode.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/logits.h"
#include "kernels/cpu/prefill.h"
#ifndef BDH_MINIMAL
#include "kernels/cpu/training/training.h"
#endif

namespace bdh::cpu {

namespace {

constexpr int64_t kPrefillTokens = 256;
// Prefill reads and writes the whole of S once, decode its active rows for each token, and none at the start.
constexpr int64_t kFewTokens = 3, kFewFirstTokens = 8;

constexpr size_t kLogitsTogether = 16;  // rows

// A segment of which the last logits are wanted, and the x that they are made of.
struct LastRow {
  const Segment* segment;
  const float* x;
};

void check_provisional(std::span<const Segment> segments) {
  const auto fits = [](const Segment& segment) {
    return segment.state && segment.tokens.size() <= static_cast<size_t>(kMostProvisional);
  };
  if (!std::all_of(segments.begin(), segments.end(), fits)) {
    fail(ErrorKind::invalid_argument, "a provisional read takes a state and at most ", kMostProvisional,
         " tokens of each sequence");
  }
}

class CpuBackend : public Backend, public std::enable_shared_from_this<CpuBackend> {
 public:
  explicit CpuBackend(const Options& options) : kernels_(kernels_for(options.isa)), pool_(options.threads) {}

  std::string name() const override {
    return concat("cpu, ", kernels_.name, ", ", pool_.threads(),
                  pool_.threads() == 1 ? " thread" : " threads");
  }

  int64_t prefill_tokens() const override { return kPrefillTokens; }
  int64_t few_tokens(int64_t position) const override { return position == 0 ? kFewFirstTokens : kFewTokens; }
  int64_t provisional_tokens() const override { return kMostProvisional; }
  bool tells_inside() const override { return true; }
  bool applies_adapters() const override { return true; }

  std::shared_ptr<const Packed> pack(const Parameters& parameters, DType dtype) override {
    const std::lock_guard lock(mutex_);
    return pack_parameters(parameters, dtype, pool_);
  }

  std::unique_ptr<State> new_state(const Packed& packed, const StateOptions& options) override {
    return std::make_unique<SequenceState>(packed.dims, kernels_, options);
  }

  MemoryNeed memory(const Dimensions& dims, DType dtype, int64_t tokens, DType s) const override {
    return {packed_bytes(dims, dtype), SequenceState::bytes_for(dims, s),
            prefill_bytes(dims, tokens, pool_.threads())};
  }

  void read(const Packed& packed, const Read& read) override {
    if (read.provisional) check_provisional(read.segments);
    const std::lock_guard lock(mutex_);
    const auto& parameters = static_cast<const PackedParameters&>(packed);
    const float* x =
        is_decode(read.segments) || read.provisional
            ? decode(kernels_, parameters, pool_, decode_, read.segments, read.activity, read.provisional)
            : prefill(kernels_, parameters, pool_, prefill_, read.segments, read.activity);
    std::vector<LastRow> last;
    for (const Segment& segment : read.segments) {
      x += static_cast<int64_t>(segment.tokens.size()) * parameters.stride;
      if (segment.x) give_x(parameters, segment, x);
      if (segment.all_logits && segment.logits) {
        give_all_logits(parameters, segment, x);
      } else if (segment.logits || segment.draw) {
        last.push_back({&segment, x - parameters.stride});
      }
    }
    for (std::span<const LastRow> rest = last; !rest.empty();) {
      const size_t count = std::min(kLogitsTogether, rest.size());
      give_last_logits(parameters, rest.first(count));
      rest = rest.subspan(count);
    }
  }

#ifndef BDH_MINIMAL
  std::unique_ptr<Training> new_training(const Dimensions& dims, const Tensor& freqs,
                                         const TrainingOptions& options) override {
    return make_training({shared_from_this(), kernels_, training_kernels_of(kernels_), pool_, mutex_}, dims,
                         freqs, options);
  }
#endif

  void accept(State& given, int64_t tokens) override {
    const std::lock_guard lock(mutex_);
    auto& state = static_cast<SequenceState&>(given);
    state.check_accepted(tokens);
    pool_.run(state.tiles(), [&](int64_t tile, int) { state.flush_accepted(tile, tokens); });
    state.advance_accepted(tokens);
  }

 private:
  // x_end: just after the segment's last row of x.
  static void give_x(const PackedParameters& packed, const Segment& segment, const float* x_end) {
    const auto rows = static_cast<int64_t>(segment.tokens.size());
    const int64_t width = packed.dims.width;
    for (int64_t row = 0; row < rows; ++row)
      std::copy_n(x_end + (row - rows) * packed.stride, width, segment.x + row * width);
  }

  void give_all_logits(const PackedParameters& packed, const Segment& segment, const float* x_end) {
    const auto rows = static_cast<int64_t>(segment.tokens.size());
    const float* x = x_end - rows * packed.stride;
    project_logits(kernels_, packed, pool_, x, rows, segment.logits);
    adapt_logits(kernels_, packed, pool_, segment.adapter, x, rows, segment.logits);
    draw(segment, segment.logits + (rows - 1) * packed.dims.vocab, packed.dims.vocab);
  }

  void draw(const Segment& segment, const float* logits, int64_t vocab) {
    if (segment.draw)
      segment.draw->token = sampler_.draw(*segment.draw, {logits, static_cast<size_t>(vocab)});
  }

  // Of the last tokens of several segments, so that lm_head is read once for them.
  void give_last_logits(const PackedParameters& packed, std::span<const LastRow> some) {
    const int64_t vocab = packed.dims.vocab, count = std::ssize(some);
    float* x = last_x_.at_least(count * packed.stride);
    float* logits = logits_.at_least(count * vocab);
    for (int64_t i = 0; i < count; ++i) std::copy_n(some[i].x, packed.stride, x + i * packed.stride);
    project_logits(kernels_, packed, pool_, x, count, logits);
    for (const auto& [segment, its_x] : some) {
      adapt_logits(kernels_, packed, pool_, segment->adapter, its_x, 1, logits);
      if (segment->logits) std::copy_n(logits, vocab, segment->logits);
      draw(*segment, logits, vocab);
      logits += vocab;
    }
  }

  const Kernels& kernels_;
  std::mutex mutex_;  // one read at a time: the pool and the scratch memory are shared
  ThreadPool pool_;
  DecodeScratch decode_;
  PrefillScratch prefill_;
  Buffer<float> last_x_, logits_;
  Sampler sampler_;
};

}  // namespace

std::shared_ptr<Backend> make_backend(const Options& options) {
  return std::make_shared<CpuBackend>(options);
}

}  // namespace bdh::cpu
