// What a run and the checkpoint that it goes on from must have in common.
#pragma once

#include <string>
#include <vector>

#include "bdh/train/checkpoint.h"

namespace bdh {

/// What is not the same, where that is allowed.
struct RunChanges {
  bool data = false;        // tokens, their order or the tokenizer
  bool validation = false;  // its text
  std::vector<std::string> warnings;
};

/// Compares a checkpoint's state with that of a new run. What either does not know is not compared. Throws
/// Error(invalid_argument), a line with all that differs, old and new, and what to do.
RunChanges compare_runs(const RunState& saved, const RunState& now, bool allow_changed_data);

/// The checkpoint's state as the new run goes on from it: with its own options, hashes and words. What was
/// judged by another metric or text is no best any more.
RunState continued_state(const RunState& saved, const RunState& now, const RunChanges& changes);

}  // namespace bdh
