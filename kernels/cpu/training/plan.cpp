// Chooses the form of attention by the work that it takes.
#include "kernels/cpu/training/plan.h"

#include <algorithm>

namespace bdh::cpu {

namespace {

constexpr int64_t kChunk = 256;      // tokens of a chunk
constexpr int64_t kGroupRows = 512;  // rows of several short sequences that are read together, about

// In products of width D for each neuron: scores and their gradients take 2 T / D, states about 10 beside the
// scores of a chunk.
bool is_long(const Dimensions& dims, int64_t tokens, int64_t chunk) {
  return tokens > chunk && 2 * tokens > 10 * dims.width + 2 * chunk;
}

RowSet whole_sequences(int64_t sequence, int64_t count, int64_t tokens) {
  const RowGroup group{sequence * tokens, count * tokens, tokens, 0, sequence};
  return {{group}, group.first, group.rows};
}

RowSet chunks_of(int64_t sequence, int64_t tokens, int64_t chunk) {
  RowSet set{{}, sequence * tokens, tokens};
  for (int64_t start = 0; start < tokens; start += chunk) {
    const int64_t length = std::min(chunk, tokens - start);
    set.groups.push_back({set.first + start, length, length, start, sequence});
  }
  return set;
}

}  // namespace

Plan plan_rows(const Dimensions& dims, const TrainingOptions& options, int64_t sequences, int64_t tokens) {
  const int64_t chunk = options.chunk > 0 ? options.chunk : kChunk;
  Plan plan;
  plan.chunked = options.form == TrainingForm::chunked ||
                 (options.form == TrainingForm::automatic && is_long(dims, tokens, chunk));
  const int64_t together = plan.chunked ? 1 : std::max<int64_t>(1, kGroupRows / tokens);
  for (int64_t i = 0; i < sequences; i += together) {
    plan.sets.push_back(plan.chunked ? chunks_of(i, tokens, chunk)
                                     : whole_sequences(i, std::min(together, sequences - i), tokens));
  }
  for (const RowSet& set : plan.sets) {
    for (const RowGroup& group : set.groups) {
      plan.longest = std::max(plan.longest, group.length);
      plan.most_rows = std::max(plan.most_rows, group.rows);
    }
  }
  return plan;
}

}  // namespace bdh::cpu
