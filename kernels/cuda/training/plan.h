// How a micro-batch is divided on a GPU: into sets of groups of rows that pass through a layer together.
#pragma once

#include <vector>

#include "kernels/training.h"

namespace bdh::cuda {

/// The tokens [start, start + length) of the sequences [sequence, sequence + segments): a segment of each.
struct TrainingGroup {
  int sequence, segments, start, length;

  int rows() const { return segments * length; }
};

/// The same sequences from their first token to their last: one group in the parallel form, a group for each
/// chunk in the chunked form.
struct TrainingSet {
  std::vector<TrainingGroup> groups;
};

struct TrainingPlan {
  std::vector<TrainingSet> sets;
  bool chunked = false;
  int longest = 0;        // tokens of a segment
  int most_rows = 0;      // of a group
  int most_segments = 0;  // of a group
};

/// most_bytes: of what is treated together, about. Throws Error(unsupported) for more rows than an index
/// holds.
TrainingPlan plan_training(const Dimensions& dims, const TrainingOptions& options, int64_t sequences,
                           int64_t tokens, int64_t most_bytes);

}  // namespace bdh::cuda
