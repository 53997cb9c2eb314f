// What a training run leaves in its folder: metrics, events, the curve, and the models at the end.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "bdh/train/event_file.h"
#include "bdh/train/metrics_file.h"
#include "bdh/train/trainer.h"
#include "tools/training/inputs.h"
#include "tools/training/options.h"
#include "tools/training/run_folder.h"

namespace bdh::tools {

/// Writes settings into the folder's options.json. Throws Error(io).
void write_options(const RunFolder& folder, const TrainSettings& settings);

/// metrics.jsonl and the event file, a step at a time. A disk that is full costs lines, not the run.
class StepLog {
 public:
  /// Goes on after `step`; what stands there of later steps is cut off. Throws Error(io).
  StepLog(const RunFolder& folder, int64_t step);
  /// What went wrong; "" where nothing did. Told once.
  std::string add(const StepMetrics& metrics);

 private:
  MetricsFile metrics_;
  EventFile events_;
  bool failed_ = false;
};

/// Draws metrics.jsonl into training.svg. Throws Error(io).
void draw_curve(const RunFolder& folder, const std::string& subtitle);

struct WrittenModels {
  std::filesystem::path final, best, ema;  // directories; empty: none
  std::filesystem::path adapter;           // of --lora: that of the last weights
  std::vector<std::string> warnings;
};

/// OUT/final, OUT/ema where an average was kept, OUT/best where there was validation, and the registry's
/// entry where it is asked for. With --lora the adapters beside them, merged models in their place, and
/// OUT/final is OUT/final_merged. backend: its name. stop: asked between files; true ends it as
/// Error(cancelled). Throws as ModelSaver::save.
WrittenModels write_models(const RunFolder& folder, const TrainSettings& settings, const StartModel& model,
                           const Checkpoint& last, const TrainResult& result, const std::string& backend,
                           const std::function<bool()>& stop);

}  // namespace bdh::tools
