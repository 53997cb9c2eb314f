// metrics.jsonl: a line for each step of a run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "bdh/base/file.h"
#include "bdh/train/trainer.h"

namespace bdh {

/// {"step", "loss", "lr", "grad_norm", "tokens_per_second", "tokens", "epoch"}, and where there are any
/// "skipped", "loss_scale", "valid_loss", "valid_bits_per_byte", "ema_valid_loss", "sample". What is not
/// finite is null.
Json metrics_json(const StepMetrics& metrics);

class MetricsFile {
 public:
  /// Keeps the lines of steps up to `step`, from which the run goes on, and cuts off the rest, half a line of
  /// a killed run too: whole or not at all. Throws Error(io).
  MetricsFile(const std::filesystem::path& path, int64_t step);
  /// A line, on its way to the disk before it returns. Throws Error(io).
  void add(const StepMetrics& metrics);

 private:
  AppendFile file_;
};

struct LossPoint {
  int64_t step = 0;
  double loss = 0;
};

/// Losses of a run, by step.
struct LossHistory {
  std::vector<LossPoint> train, validation;
};

/// What a metrics file has, up to the first line that is none; losses that are not finite are left out.
/// Throws Error(not_found), Error(io).
LossHistory read_loss_history(const std::filesystem::path& path);

}  // namespace bdh
