// BatchOrder: which tokens each micro-batch reads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "bdh/train/token_data.h"

namespace bdh {

/// Inputs and targets of one micro-batch, (B, T) each.
struct BatchTokens {
  std::vector<int32_t> inputs, targets;
  bool continues =
      false;  // each sequence goes on where the micro-batch of that number left it one step before
};

/// Which tokens a micro-batch reads: a pure function of the seed and the numbers of step and micro-batch, so
/// that a run resumes anywhere.
class BatchOrder {
 public:
  virtual ~BatchOrder() = default;
  /// step >= 0, micro_batch in [0, accumulate). Throws Error(invalid_argument) outside, or at steps().
  virtual BatchTokens batch(int64_t step, int64_t micro_batch) const = 0;
  /// Steps of one pass over the data (rounded down; at least 1).
  virtual int64_t steps_per_epoch() const = 0;
  /// Steps that there are; INT64_MAX where the data can be read again.
  virtual int64_t steps() const = 0;
  /// What the order depends on, for a checkpoint: another data set, block or batch gives another text.
  virtual std::string hash() const = 0;
};

/// Blocks of T tokens and the token after, without overlap, all of them once in an epoch, in an order of the
/// epoch's own; each epoch begins at another offset, which costs it at most one block. An epoch may end
/// inside a step. How the sequences of a step are cut into micro-batches makes no difference to what they
/// are. Throws Error(invalid_argument) where there is no whole block.
std::unique_ptr<BatchOrder> shuffled_blocks(TokenData data, int64_t block, int64_t batch, int64_t accumulate,
                                            uint64_t seed);
/// B * G streams through the data, each read block after block; all begin anew at the end of an epoch, at
/// another offset. Throws Error(invalid_argument) where a stream has no whole block.
std::unique_ptr<BatchOrder> consecutive_blocks(TokenData data, int64_t block, int64_t batch,
                                               int64_t accumulate, uint64_t seed);
/// Exactly the micro-batches of a safetensors file: I32 or I64 `tokens` (steps, B, T + 1), B a multiple of
/// accumulate; micro-batch m of a step has the sequences [m B / G, (m + 1) B / G). All tokens are checked.
/// Throws Error(bad_file), Error(not_found), Error(io).
std::unique_ptr<BatchOrder> given_batches(const std::filesystem::path& file, int64_t accumulate,
                                          int64_t vocab);

}  // namespace bdh
