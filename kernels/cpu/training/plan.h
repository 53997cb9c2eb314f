// How a micro-batch is divided: into sets of groups of rows that pass through a layer together.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/training.h"

namespace bdh::cpu {

/// Consecutive rows of the micro-batch, the tokens [start, start + length) of each of rows / length
/// sequences.
struct RowGroup {
  int64_t first;     // row
  int64_t rows;      // segments * length
  int64_t length;    // tokens of a segment
  int64_t start;     // where in the sequence they stand
  int64_t sequence;  // the first one

  int64_t segments() const { return rows / length; }
};

/// Whole sequences: several in one group in the parallel form, one in several groups, its chunks, in the
/// chunked form.
struct RowSet {
  std::vector<RowGroup> groups;
  int64_t first, rows;
};

struct Plan {
  std::vector<RowSet> sets;
  int64_t longest = 0;    // tokens of a segment
  int64_t most_rows = 0;  // of a group
  bool chunked = false;
};

Plan plan_rows(const Dimensions& dims, const TrainingOptions& options, int64_t sequences, int64_t tokens);

}  // namespace bdh::cpu
