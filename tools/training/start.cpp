// Choosing the checkpoint to go on from, and whose options count.
#include "tools/training/start.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/train/checkpoint_manager.h"
#include "bdh/train/torch_checkpoint.h"

namespace bdh::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLatest = "latest";
constexpr const char* kSuffix = ".safetensors";

bool is_there(const fs::path& path) {
  std::error_code none;
  return fs::exists(path, none);
}

bool is_folder(const fs::path& path) {
  std::error_code none;
  return fs::is_directory(path, none);
}

bool has_checkpoint(const RunFolder& folder) {
  return is_there(folder.checkpoints()) && !list_checkpoints(folder.checkpoints()).empty();
}

bool has_model(const RunFolder& folder) { return is_there(folder.final()) || is_there(folder.merged()); }

void refuse_to_overwrite(const RunFolder& folder) {
  const std::string name = folder.path().string();
  if (has_checkpoint(folder))
    fail(ErrorKind::invalid_argument, name,
         ": a run is there already: go on with --resume, or give another --out");
  if (has_model(folder))
    fail(ErrorKind::invalid_argument, name,
         ": a trained model is there already, but no checkpoint to go on from: give another --out");
}

/// A new run would write over what may yet be of use.
void refuse_damaged(const RunFolder& folder) {
  if (has_checkpoint(folder))
    fail(ErrorKind::bad_file, folder.checkpoints().string(),
         ": no checkpoint there is whole; bdh checkpoints says more, and without them the run starts again");
}

/// Nothing where there is no whole one yet.
std::optional<fs::path> newest(const RunFolder& folder, std::vector<std::string>& warnings) {
  return is_there(folder.checkpoints()) ? latest_checkpoint(folder.checkpoints(), &warnings) : std::nullopt;
}

/// A run's folder stands for its newest checkpoint, and a name for that checkpoint of --out.
fs::path named(const RunFolder& folder, const fs::path& name, std::vector<std::string>& warnings) {
  if (is_folder(name)) {
    const fs::path checkpoints = is_folder(name / "checkpoints") ? name / "checkpoints" : name;
    if (const auto file = latest_checkpoint(checkpoints, &warnings)) return *file;
    fail(ErrorKind::not_found, name.string(), ": no whole checkpoint there");
  }
  const fs::path in_run = folder.checkpoints() / (name.string() + kSuffix);
  return !is_there(name) && is_there(in_run) ? in_run : name;
}

bool is_of(const RunFolder& folder, const fs::path& file) {
  std::error_code none;
  return fs::equivalent(fs::absolute(file).parent_path(), folder.checkpoints(), none);
}

std::optional<fs::path> checkpoint_file(const RunFolder& folder, const TrainFlags& flags,
                                        std::vector<std::string>& warnings) {
  if (!flags.resume) {
    refuse_to_overwrite(folder);
    return {};
  }
  std::optional<fs::path> file;
  if (flags.resume->empty() || *flags.resume == kLatest)
    file = newest(folder, warnings);
  else
    file = named(folder, *flags.resume, warnings);
  if (file ? !is_of(folder, *file) : has_model(folder)) refuse_to_overwrite(folder);
  return file;
}

/// options.json of the run that the checkpoint belongs to, or that was killed before it had one.
fs::path options_beside(const RunFolder& folder, const std::optional<fs::path>& checkpoint) {
  if (!checkpoint) return folder.options();
  return fs::absolute(*checkpoint).parent_path().parent_path() / "options.json";
}

/// What an optimizer of PyTorch was set to.
void take_optimizer(TrainOptions& train, const TorchOptimizer& optimizer) {
  train.schedule.rate = optimizer.rate;
  train.beta1 = optimizer.beta1;
  train.beta2 = optimizer.beta2;
  train.epsilon = optimizer.epsilon;
  train.weight_decay = optimizer.weight_decay;
  train.no_decay = optimizer.no_decay;
}

/// A run begun in Python: its optimizer goes on with the options that it had.
void take_torch_checkpoint(TrainStart& start, const TrainFlags& flags) {
  const std::string config = with_flags({}, flags).run.config;
  TorchCheckpoint torch = read_torch_checkpoint(start.file, config);
  start.warnings.insert(start.warnings.end(), torch.warnings.begin(), torch.warnings.end());
  take_optimizer(start.settings.train, torch.optimizer);
  start.checkpoint = std::move(torch.checkpoint);
  start.checkpoint->state.source = start.file.string();
}

void take_checkpoint(TrainStart& start, const TrainFlags& flags) {
  if (is_torch_checkpoint(start.file)) return take_torch_checkpoint(start, flags);
  start.checkpoint = read_checkpoint(start.file);
}

void take_settings_of_run(TrainStart& start, const fs::path& options) {
  TrainSettings& settings = start.settings;
  if (start.checkpoint && start.checkpoint->state.options.is_object())
    settings.train.set(start.checkpoint->state.options, start.file.string());
  if (is_there(options)) set_from_file(settings, options);
}

}  // namespace

TrainStart find_start(const RunFolder& folder, const TrainFlags& flags) {
  TrainStart start;
  const std::optional<fs::path> file = checkpoint_file(folder, flags, start.warnings);
  if (file) {
    start.file = *file;
    take_checkpoint(start, flags);
  }
  start.asked_to_resume = flags.resume.has_value();
  if (flags.resume) take_settings_of_run(start, options_beside(folder, file));
  start.settings = with_flags(std::move(start.settings), flags);
  if (!file && start.settings.run.from.empty()) refuse_damaged(folder);
  return start;
}

std::string start_line(const TrainStart& start, const std::string& source) {
  if (start.checkpoint)
    return concat("resumed from ", start.file.string(), ", after step ", start.checkpoint->state.step);
  const std::string run = source == "new" ? "a new run" : concat("a new run from the weights of ", source);
  return start.asked_to_resume ? "no whole checkpoint yet, nothing to resume: " + run + ", at step 0" : run;
}

}  // namespace bdh::tools
