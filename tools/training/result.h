// What `bdh train` prints at the end.
#pragma once

#include <string>

#include "tools/training/output.h"

namespace bdh::tools {

struct FinishedRun {
  TrainResult result;
  WrittenModels written;  // empty for a run that was stopped
  int64_t first = 0;      // steps that were done before this session
  int64_t steps = 0;      // asked for
  std::string backend;
  std::string metric;  // what best means
};

std::string result_text(const FinishedRun& run, const RunFolder& folder);
Json result_json(const FinishedRun& run, const RunFolder& folder);

}  // namespace bdh::tools
