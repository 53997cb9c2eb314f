// What `bdh train` says on stderr while it trains: a line that is redrawn on a terminal, and now and then one
// that stays.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "bdh/train/trainer.h"
#include "tools/cli/progress.h"

namespace bdh::tools {

class TrainingProgress {
 public:
  /// Steps from `first`, which are done, to `steps`.
  TrainingProgress(int64_t first, int64_t steps);

  /// A line that stays: for a validation, a sample, and after a minute without one where nobody sees the
  /// other.
  void step(const StepMetrics& metrics);
  void validating(int64_t done, int64_t total);
  void warn(const std::string& problem);
  /// Erases the line.
  void erase() { line_.erase(); }

 private:
  using Clock = std::chrono::steady_clock;

  void stay(const StepMetrics& metrics);
  std::string text_of(const StepMetrics& metrics) const;
  std::string seconds_left(int64_t step) const;

  Progress line_;
  int64_t first_, steps_;
  bool terminal_;
  int64_t step_ = 0;
  Clock::time_point start_, drawn_, stayed_;
};

}  // namespace bdh::tools
