// `bdh checkpoints`: those of a training run: listed, verified, exported as a model or for PyTorch.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "bdh/train/checkpoint_manager.h"
#include "bdh/train/model_saver.h"
#include "bdh/train/torch_checkpoint.h"
#include "tools/command.h"
#include "tools/training/adapter.h"
#include "tools/training/inputs.h"
#include "tools/training/options.h"

namespace bdh::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLatest = "latest";
constexpr const char* kBest = "best";
constexpr const char* kPrefix = "checkpoint_";
constexpr const char* kEmaMetric = "ema_valid_loss";

struct Options {
  std::string directory, to, exported, to_torch, name, tokenizer;
  bool json = false, verify = false, best = false, latest = false, ema = false, overwrite = false;
};

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// A run's folder, or that of its checkpoints.
fs::path folder_of(const fs::path& directory) {
  if (is_folder(directory / "checkpoints")) return directory / "checkpoints";
  if (is_folder(directory)) return directory;
  fail(ErrorKind::not_found, "no such folder: '", directory.string(),
       "'; name the --out of a training run, or its checkpoints folder");
}

[[noreturn]] void fail_without(const fs::path& folder, const std::string& what) {
  fail(ErrorKind::not_found, folder.string(), ": ", what);
}

/// latest, best, or a checkpoint by its name, with or without "checkpoint_".
fs::path chosen(const fs::path& folder, const std::string& name) {
  std::vector<std::string> warnings;
  std::optional<fs::path> file;
  if (name.empty() || name == kLatest) {
    file = latest_checkpoint(folder, &warnings);
  } else if (name == kBest) {
    file = best_checkpoint(folder);
  } else {
    const std::string full = name.starts_with(kPrefix) ? name : kPrefix + name;
    for (const CheckpointEntry& entry : list_checkpoints(folder))
      if (entry.name == full) file = entry.file;
    if (!file) fail_without(folder, concat("has no ", full, "; bdh checkpoints lists those it has"));
  }
  for (const std::string& warning : warnings) warn(warning);
  if (!file && name == kBest) fail_without(folder, "has no best checkpoint: the run had no validation");
  if (!file) fail_without(folder, "no whole checkpoint there");
  return *file;
}

// ---- the list ----

std::string metric_text(const std::optional<double>& metric) {
  if (!metric) return "";
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", *metric);
  return text;
}

std::string to_line(const CheckpointEntry& entry, bool verified) {
  const bool whole = entry.problem.empty();
  char line[160];
  std::snprintf(line, sizeof line, "%-32s %9s %6s %10s %10s  %s\n", one_line(entry.name).c_str(),
                whole ? std::to_string(entry.state.step).c_str() : "",
                whole ? std::to_string(entry.state.epoch).c_str() : "", metric_text(entry.metric).c_str(),
                format_bytes(entry.bytes).c_str(),
                !whole     ? "damaged"
                : verified ? "whole"
                           : "");
  return line;
}

std::string to_table(const std::vector<CheckpointEntry>& entries, bool verified) {
  char head[160];
  std::snprintf(head, sizeof head, "%-32s %9s %6s %10s %10s\n", "checkpoint", "step", "epoch", "metric",
                "size");
  std::string table = head;
  for (const CheckpointEntry& entry : entries) table += to_line(entry, verified);
  return table;
}

Json to_json(const CheckpointEntry& entry, bool verified) {
  const bool whole = entry.problem.empty();
  Json json;
  json.set("name", entry.name).set("path", entry.file.string()).set("bytes", entry.bytes);
  json.set("step", whole ? Json(entry.state.step) : Json());
  json.set("epoch", whole ? Json(entry.state.epoch) : Json());
  json.set("metric", entry.metric ? Json(*entry.metric) : Json());
  json.set("whole", whole && !verified ? Json() : Json(whole));
  json.set("problem", whole ? Json() : Json(entry.problem));
  return json;
}

void run_list(const Options& options, const fs::path& folder) {
  const std::vector<CheckpointEntry> entries = list_checkpoints(folder, options.verify);
  if (entries.empty()) fail_without(folder, "no checkpoints there");
  if (options.json) {
    Json::Array list;
    for (const CheckpointEntry& entry : entries) list.push_back(to_json(entry, options.verify));
    write_out(Json(std::move(list)).dump(2) + "\n");
  } else {
    write_out(to_table(entries, options.verify));
  }
  int damaged = 0;
  for (const CheckpointEntry& entry : entries) {
    if (entry.problem.empty()) continue;
    ++damaged;
    warn(entry.problem);
  }
  if (options.verify && damaged > 0)
    fail(ErrorKind::bad_file, folder.string(), ": ", damaged, " of ", entries.size(),
         " checkpoints are damaged; delete them");
}

// ---- a checkpoint in another form ----

TrainSettings settings_of(const Checkpoint& checkpoint, const fs::path& file, const fs::path& folder) {
  TrainSettings settings;
  const fs::path options = folder.parent_path() / "options.json";
  if (is_there(options)) set_from_file(settings, options);
  if (checkpoint.state.options.is_object()) settings.train.set(checkpoint.state.options, file.string());
  return settings;
}

TrainResult result_of(const RunState& state) {
  TrainResult result;
  result.step = state.step;
  result.best = state.best;
  result.best_step = state.best_step;
  result.seconds = state.seconds;
  result.tokens = state.tokens;
  if (!state.history.is_array() || state.history.as_array().empty()) return result;
  const Json& last = state.history.as_array().back();
  const Json *step = last.find("step"), *loss = last.find("valid_loss"), *average = last.find(kEmaMetric);
  if (!step || !step->is_number() || step->as_number() != static_cast<double>(state.step)) return result;
  if (loss && loss->is_number()) result.valid_loss = loss->as_number();
  if (average && average->is_number()) result.ema_valid_loss = average->as_number();
  return result;
}

void require_place(const fs::path& place, bool overwrite) {
  if (is_there(place) && !overwrite)
    fail(ErrorKind::invalid_argument, "'", place.string(),
         "' already exists; replace it with --overwrite, or choose another name");
}

void run_export(const Options& options, const fs::path& folder) {
  if (options.to.empty()) throw UsageError("--export needs the directory to write, after the run's");
  require_place(options.to, options.overwrite);
  const fs::path file = chosen(folder, options.exported);
  const Checkpoint checkpoint = read_checkpoint(file);
  if (options.ema && checkpoint.ema.empty())
    fail(ErrorKind::invalid_argument, file.string(), ": keeps no average of the weights; leave out --ema");
  TrainSettings settings = settings_of(checkpoint, file, folder);
  if (!options.tokenizer.empty()) settings.run.tokenizer = options.tokenizer;
  const StartModel model = start_model(settings, &checkpoint);
  for (const std::string& warning : model.warnings) warn(warning);
  SaveOptions save;
  save.huggingface = settings.run.huggingface;
  save.overwrite = options.overwrite;
  TrainingFacts facts;
  facts.result = result_of(checkpoint.state);
  facts.version = settings.run.version;
  facts.dataset = dataset_name(settings.run);
  facts.command = command_line(settings, folder.parent_path().string());
  if (is_there(folder.parent_path() / "training.svg")) facts.curve = folder.parent_path() / "training.svg";
  const ModelSaver saver(model.tokenizer, model.tokenizer_source, save);
  const Checkpoint whole = with_merged_weights(checkpoint, model, settings.train.lora);
  for (const std::string& warning : saver.save(options.to, whole, options.ema, facts)) warn(warning);
  write_out(concat(options.to, ": the ", options.ema ? "average" : "weights", " of ", file.stem().string(),
                   ", step ", checkpoint.state.step, "\n"));
}

/// What the last step used.
TorchOptimizer optimizer_of(const TrainOptions& train, int64_t step) {
  TorchOptimizer optimizer;
  optimizer.rate = rate_at(train.schedule, std::clamp<int64_t>(step - 1, 0, train.steps - 1), train.steps);
  optimizer.beta1 = train.beta1, optimizer.beta2 = train.beta2, optimizer.epsilon = train.epsilon;
  optimizer.weight_decay = train.weight_decay;
  optimizer.no_decay = train.no_decay;
  return optimizer;
}

void run_to_torch(const Options& options, const fs::path& folder) {
  require_place(options.to_torch, options.overwrite);
  const fs::path file = chosen(folder, options.name);
  const Checkpoint checkpoint = read_checkpoint(file);
  const TrainSettings settings = settings_of(checkpoint, file, folder);
  if (settings.train.lora.on)
    fail(ErrorKind::unsupported, file.string(),
         ": is of a LoRA adapter, whose AdamW PyTorch's checkpoints of a ",
         "model cannot hold; take OUT/adapter_checkpoint to PEFT, or the merged model with --export");
  write_torch_checkpoint(options.to_torch, checkpoint, optimizer_of(settings.train, checkpoint.state.step));
  write_out(concat(options.to_torch, ": ", file.stem().string(), ", step ", checkpoint.state.step, "\n"));
}

void run(const Options& options) {
  const fs::path folder = folder_of(fs::absolute(options.directory).lexically_normal());
  if (!options.exported.empty()) return run_export(options, folder);
  if (!options.to.empty()) throw UsageError("a second directory goes with --export alone");
  if (!options.to_torch.empty()) return run_to_torch(options, folder);
  if (options.latest || options.best)
    return write_out(chosen(folder, options.best ? kBest : kLatest).string() + "\n");
  run_list(options, folder);
}

}  // namespace

void add_checkpoints(Command& program) {
  const auto options = std::make_shared<Options>();
  Command command = program.subcommand("checkpoints", "List, verify and export the checkpoints of a run");
  command.option("DIR", &options->directory, "the --out of bdh train, or its checkpoints folder").required();
  command.option("TO", &options->to, "directory that --export writes");
  command.flag("--json", &options->json, "the list as JSON");
  command.flag("--verify", &options->verify, "read all of each; exit code 1 when one is damaged");
  command.flag("--latest", &options->latest, "print the path of the newest that is whole");
  command.flag("--best", &options->best, "print the path of the best by the run's metric");
  command.option("--export", &options->exported,
                 "write latest, best or the one of that name, as step_1000, as a model directory TO");
  command.flag("--ema", &options->ema, "with --export: the average of the weights");
  command.option("--tokenizer", &options->tokenizer,
                 "with --export: a directory with the tokenizer, where it is not that of the run's options");
  command.option("--to-torch", &options->to_torch,
                 "write a training checkpoint for PyTorch: model, optimizer, step, config");
  command.option("--name", &options->name, "with --to-torch: latest (the default), best or a name");
  command.flag("--overwrite", &options->overwrite, "replace what stands there");
  command.footer(
      "Example: bdh checkpoints run --verify\n"
      "         bdh checkpoints run --export best model\n"
      "         bdh checkpoints run --to-torch checkpoint.pt");
  command.run([options] { run(*options); });
}

}  // namespace bdh::tools
