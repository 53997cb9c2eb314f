// Chooses the form of attention by the work that it takes, and groups by the memory.
#include "kernels/cuda/training/plan.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "kernels/cuda/sizes.h"

namespace bdh::cuda {

namespace {

constexpr int64_t kChunk = 512;       // tokens of a chunk
constexpr int64_t kGroupRows = 4096;  // that are treated together, about
constexpr int64_t kMostRows = int64_t{1} << 30;

// In products of width D for each neuron: scores and their gradients take 2 T / D, states about 10 beside the
// scores of a chunk.
bool is_long(const Dimensions& dims, int64_t tokens, int64_t chunk) {
  return tokens > chunk && 2 * tokens > 10 * dims.width + 2 * chunk;
}

// So many that a head's activations fit, and S.
int64_t sequences_together(const Dimensions& dims, bool chunked, int64_t length, int64_t most_bytes) {
  constexpr int64_t kArrays = 5, kFloat = sizeof(float);
  const int64_t rows = std::min(kGroupRows, most_bytes / (kArrays * dims.neurons * kFloat));
  const int64_t state = dims.heads * dims.neurons * rounded_up(dims.width, kVector) * kFloat;
  const int64_t fit = std::min(rows / length, kMostBlocks / dims.heads);
  return std::max<int64_t>(1, chunked ? std::min(fit, most_bytes / state) : fit);
}

}  // namespace

TrainingPlan plan_training(const Dimensions& dims, const TrainingOptions& options, int64_t sequences,
                           int64_t tokens, int64_t most_bytes) {
  if (tokens > kMostRows / sequences)
    fail(ErrorKind::unsupported, "a micro-batch of ", sequences, " sequences of ", tokens,
         " tokens is more than the CUDA backend counts; use smaller ones");
  const int64_t chunk = options.chunk > 0 ? options.chunk : kChunk;
  TrainingPlan plan;
  plan.chunked = options.form == TrainingForm::chunked ||
                 (options.form == TrainingForm::automatic && is_long(dims, tokens, chunk));
  const int64_t longest = plan.chunked ? std::min(chunk, tokens) : tokens;
  const int64_t together = std::min(sequences, sequences_together(dims, plan.chunked, longest, most_bytes));
  plan.longest = static_cast<int>(longest);
  plan.most_segments = static_cast<int>(together);
  plan.most_rows = static_cast<int>(together * longest);
  for (int64_t sequence = 0; sequence < sequences; sequence += together) {
    TrainingSet& set = plan.sets.emplace_back();
    const auto segments = static_cast<int>(std::min(together, sequences - sequence));
    for (int64_t start = 0; start < tokens; start += longest)
      set.groups.push_back({static_cast<int>(sequence), segments, static_cast<int>(start),
                            static_cast<int>(std::min(longest, tokens - start))});
  }
  return plan;
}

}  // namespace bdh::cuda
