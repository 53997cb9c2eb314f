// Writing what a training run leaves.
#include "tools/training/output.h"

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/train/checkpoint_manager.h"
#include "bdh/train/model_saver.h"
#include "tools/charts/loss_curve.h"
#include "tools/registry/registry.h"
#include "tools/training/adapter.h"

namespace bdh::tools {
namespace {

namespace fs = std::filesystem;

void write_text(const fs::path& file, const std::string& text) {
  AtomicFile out(file);
  out.write(text);
  out.commit();
}

constexpr const char* kEmaMetric = "ema_valid_loss";

class ModelWriter {
 public:
  ModelWriter(const RunFolder& folder, const TrainSettings& settings, const StartModel& model,
              const std::function<bool()>& stop)
      : settings_(settings),
        model_(model),
        saver_(model.tokenizer, model.tokenizer_source, save_options(settings.run, stop)) {
    facts_.name = settings.run.name.empty() ? short_name(folder.path()) : settings.run.name;
    facts_.version = settings.run.version;
    facts_.dataset = dataset_name(settings.run);
    facts_.command = command_line(settings, folder.path().string());
    facts_.curve = folder.curve();
  }

  TrainingFacts& facts() { return facts_; }

  /// adapter: where that is written, with --lora.
  fs::path write(const fs::path& directory, const fs::path& adapter, const Checkpoint& checkpoint, bool ema,
                 std::vector<std::string>& warnings) {
    const LoraOptions& lora = settings_.train.lora;
    if (lora.on) write_adapter(adapter, settings_, model_, checkpoint, ema);
    const Checkpoint whole = with_merged_weights(checkpoint, model_, lora);
    const std::vector<std::string> more = saver_.save(directory, whole, ema, facts_);
    warnings.insert(warnings.end(), more.begin(), more.end());
    return directory;
  }

 private:
  static SaveOptions save_options(const RunOptions& run, const std::function<bool()>& stop) {
    SaveOptions options;
    options.huggingface = run.huggingface;
    options.progress = [stop](uint64_t, uint64_t) { return !stop(); };
    return options;
  }

  const TrainSettings& settings_;
  const StartModel& model_;
  ModelSaver saver_;
  TrainingFacts facts_;
};

/// In the registry, with what is worth knowing of it there.
void register_model(const RunOptions& run, const fs::path& directory, const TrainResult& result,
                    std::vector<std::string>& warnings) {
  Json metadata;
  metadata.set("dataset", dataset_name(run)).set("steps", result.step);
  if (result.valid_loss) metadata.set("valid_loss", *result.valid_loss);
  const auto more = ModelRegistry(default_registry()).add(run.name, run.version, directory, metadata);
  warnings.insert(warnings.end(), more.begin(), more.end());
}

}  // namespace

void write_options(const RunFolder& folder, const TrainSettings& settings) {
  write_text(folder.options(), settings.to_json().dump(2) + "\n");
}

StepLog::StepLog(const RunFolder& folder, int64_t step)
    : metrics_(folder.metrics(), step), events_(folder.events(), step) {}

std::string StepLog::add(const StepMetrics& metrics) {
  try {
    metrics_.add(metrics);
    events_.add(metrics);
    return "";
  } catch (const Error& error) {
    if (std::exchange(failed_, true)) return "";
    return concat(error.what(), "; the run goes on, steps will be missing there");
  }
}

void draw_curve(const RunFolder& folder, const std::string& subtitle) {
  const std::string title = "Loss of " + short_name(folder.path());
  write_text(folder.curve(), loss_curve_svg(read_loss_history(folder.metrics()), title, subtitle));
}

WrittenModels write_models(const RunFolder& folder, const TrainSettings& settings, const StartModel& model,
                           const Checkpoint& last, const TrainResult& result, const std::string& backend,
                           const std::function<bool()>& stop) {
  ModelWriter writer(folder, settings, model, stop);
  writer.facts().result = result;
  writer.facts().hardware = backend;
  WrittenModels written;
  const bool lora = settings.train.lora.on;
  if (lora) {
    written.adapter = folder.adapter();
    write_adapter_metadata(folder.metadata(), settings, model, result);
  }
  written.final =
      writer.write(lora ? folder.merged() : folder.final(), folder.adapter(), last, false, written.warnings);
  if (!last.ema.empty())
    written.ema = writer.write(folder.ema(), folder.ema_adapter(), last, true, written.warnings);
  const auto best = best_checkpoint(folder.checkpoints());
  if (best && result.best)
    written.best = writer.write(folder.best(), folder.best_adapter(), read_checkpoint(*best),
                                settings.train.metric == kEmaMetric, written.warnings);
  if (!settings.run.name.empty()) register_model(settings.run, written.final, result, written.warnings);
  return written;
}

}  // namespace bdh::tools
