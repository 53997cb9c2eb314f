// Orders of blocks of one long text: shuffled, and consecutive in streams.
#include "bdh/train/batch_order.h"

#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <string_view>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/philox.h"
#include "bdh/base/sha256.h"
#include "bdh/train/permutation.h"

namespace bdh {
namespace {

constexpr int64_t kMostSequences = int64_t{1} << 31;  // of a step
constexpr uint64_t kOffsets = 0x6f666673657473;       // keeps a seed's offsets apart from its other numbers

/// What both orders have in common.
struct Blocks {
  TokenData data;
  int64_t block, batch, accumulate;
  uint64_t seed;

  void validate() const {
    if (block < 1 || batch < 1 || accumulate < 1 || batch > kMostSequences / accumulate)
      fail(ErrorKind::invalid_argument, "a block of ", block, " tokens, a batch of ", batch, " and ",
           accumulate, " micro-batches: each must be at least 1, and a step of at most ", kMostSequences,
           " sequences");
  }
  int64_t sequences() const { return batch * accumulate; }  // of a step
  /// Whole blocks that have a token after the last, from any offset.
  int64_t blocks() const { return data.size() > 0 ? (data.size() - 1) / block : 0; }

  /// Fills row `row` of a micro-batch with the block at `begin`.
  void read(BatchTokens& tokens, int64_t row, int64_t begin) const {
    data.copy(begin, block, tokens.inputs.data() + row * block);
    data.copy(begin + 1, block, tokens.targets.data() + row * block);
  }
  BatchTokens room() const {
    const auto size = static_cast<size_t>(batch * block);
    return {std::vector<int32_t>(size), std::vector<int32_t>(size)};
  }
  void require(int64_t step, int64_t micro_batch) const {
    const int64_t most = std::numeric_limits<int64_t>::max() / sequences() - 1;
    if (step >= 0 && step <= most && micro_batch >= 0 && micro_batch < accumulate) return;
    fail(ErrorKind::invalid_argument, "step ", step, ", micro-batch ", micro_batch,
         " is not there: the run has ", accumulate, " micro-batches in a step");
  }
  /// In [0, count), the epoch's own.
  int64_t offset(int64_t epoch, int64_t count) const {
    const auto number = static_cast<uint64_t>(epoch);
    const std::array<uint32_t, 4> words =
        philox({0, 0, static_cast<uint32_t>(number), static_cast<uint32_t>(number >> 32)}, seed ^ kOffsets);
    return static_cast<int64_t>(((uint64_t{words[0]} << 32 | words[1]) >> 1) % static_cast<uint64_t>(count));
  }
  std::string hash(std::string_view kind) const {
    return sha256_of(concat(kind, " block ", block, " batch ", batch, " accumulate ", accumulate, " seed ",
                            seed, " data ", data.hash()));
  }
};

class ShuffledBlocks : public BatchOrder {
 public:
  explicit ShuffledBlocks(Blocks blocks) : blocks_(std::move(blocks)) {
    blocks_.validate();
    if (blocks_.blocks() < 1)
      fail(ErrorKind::invalid_argument, "the text to train on has ", blocks_.data.size(),
           " tokens, too few for a block of ", blocks_.block,
           " and the token after it; give more text or a smaller --block");
    per_epoch_ = std::max<int64_t>(1, blocks_.data.size() / blocks_.block - 1);
    offsets_ = blocks_.data.size() - per_epoch_ * blocks_.block;
  }

  BatchTokens batch(int64_t step, int64_t micro_batch) const override {
    blocks_.require(step, micro_batch);
    BatchTokens tokens = blocks_.room();
    const int64_t first = step * blocks_.sequences() + micro_batch * blocks_.batch;
    for (int64_t row = 0; row < blocks_.batch; ++row) {
      const int64_t epoch = (first + row) / per_epoch_, index = (first + row) % per_epoch_;
      const int64_t block = permuted(index, per_epoch_, blocks_.seed, static_cast<uint64_t>(epoch));
      blocks_.read(tokens, row, blocks_.offset(epoch, offsets_) + block * blocks_.block);
    }
    return tokens;
  }
  int64_t steps_per_epoch() const override { return std::max<int64_t>(1, per_epoch_ / blocks_.sequences()); }
  int64_t steps() const override { return std::numeric_limits<int64_t>::max(); }
  std::string hash() const override { return blocks_.hash("shuffled"); }

 private:
  Blocks blocks_;
  int64_t per_epoch_ = 0;  // blocks
  int64_t offsets_ = 0;    // that an epoch may begin at
};

class ConsecutiveBlocks : public BatchOrder {
 public:
  explicit ConsecutiveBlocks(Blocks blocks) : blocks_(std::move(blocks)) {
    blocks_.validate();
    per_epoch_ = blocks_.blocks() / blocks_.sequences();
    if (per_epoch_ < 1)
      fail(ErrorKind::invalid_argument, "the text to train on has ", blocks_.data.size(),
           " tokens, too few for ", blocks_.sequences(), " streams with a block of ", blocks_.block,
           " each; give more text, or a smaller --batch or --block");
    offsets_ = blocks_.data.size() - per_epoch_ * blocks_.sequences() * blocks_.block;
  }

  BatchTokens batch(int64_t step, int64_t micro_batch) const override {
    blocks_.require(step, micro_batch);
    BatchTokens tokens = blocks_.room();
    const int64_t epoch = step / per_epoch_, index = step % per_epoch_;
    const int64_t offset = blocks_.offset(epoch, offsets_);
    for (int64_t row = 0; row < blocks_.batch; ++row) {
      const int64_t stream = micro_batch * blocks_.batch + row;
      blocks_.read(tokens, row, offset + (stream * per_epoch_ + index) * blocks_.block);
    }
    tokens.continues = index > 0;
    return tokens;
  }
  int64_t steps_per_epoch() const override { return per_epoch_; }
  int64_t steps() const override { return std::numeric_limits<int64_t>::max(); }
  std::string hash() const override { return blocks_.hash("consecutive"); }

 private:
  Blocks blocks_;
  int64_t per_epoch_ = 0;  // blocks of a stream
  int64_t offsets_ = 0;    // that an epoch may begin at
};

}  // namespace

std::unique_ptr<BatchOrder> shuffled_blocks(TokenData data, int64_t block, int64_t batch, int64_t accumulate,
                                            uint64_t seed) {
  return std::make_unique<ShuffledBlocks>(Blocks{std::move(data), block, batch, accumulate, seed});
}

std::unique_ptr<BatchOrder> consecutive_blocks(TokenData data, int64_t block, int64_t batch,
                                               int64_t accumulate, uint64_t seed) {
  return std::make_unique<ConsecutiveBlocks>(Blocks{std::move(data), block, batch, accumulate, seed});
}

}  // namespace bdh
