// Where a run begins: at step 0, or at a checkpoint.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "bdh/train/checkpoint.h"
#include "tools/training/options.h"
#include "tools/training/run_folder.h"

namespace bdh::tools {

struct TrainStart {
  std::optional<Checkpoint> checkpoint;  // none: step 0
  std::filesystem::path file;            // the checkpoint's
  bool asked_to_resume = false;
  TrainSettings settings;  // those of the run that goes on, then the flags
  std::vector<std::string> warnings;
};

/// With --resume the checkpoint it names, or the newest whole one in the folder; where that has none yet, the
/// run starts at step 0. Throws Error(invalid_argument) where something would be overwritten: the folder
/// holds a run that is not resumed. UsageError, Error(not_found), Error(bad_file) as its files are.
TrainStart find_start(const RunFolder& folder, const TrainFlags& flags);

/// What kind of run this is, in one line: new, from a model, or resumed. `source`: "new" or the model's path.
std::string start_line(const TrainStart& start, const std::string& source);

}  // namespace bdh::tools
