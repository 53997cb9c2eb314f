// ModelSaver: a checkpoint as a model directory.
#include "bdh/train/model_saver.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <string_view>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/printable.h"
#include "bdh/base/version.h"
#include "bdh/model/horizon.h"
#include "bdh/pretrained/file_names.h"
#include "bdh/pretrained/metadata.h"
#include "kernels/backends.h"

namespace bdh {
namespace {

constexpr size_t kMaxPictureBytes = 16'000'000;
constexpr const char* kFrequencies = "attn.freqs";
/// What a metric is called in the model's files, and in the run's history.
struct MetricName {
  std::string_view name, key;
};
constexpr MetricName kMetrics[] = {
    {"loss", "loss"}, {"valid_loss", "valid_loss"}, {"valid_bits_per_byte", "valid_bits_per_byte"}};
constexpr MetricName kAverageMetrics[] = {{"valid_loss", "ema_valid_loss"}};

/// v1.0 or v1.0.1
bool is_version(std::string_view text) {
  if (!text.starts_with('v')) return false;
  int parts = 0;
  while (!text.empty()) {
    text.remove_prefix(1);  // v, or the point
    const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    text.remove_prefix(digits);
    if (digits == 0 || (!text.empty() && text[0] != '.')) return false;
    ++parts;
  }
  return parts == 2 || parts == 3;
}

void require_version(const std::string& version) {
  if (version.empty() || is_version(version)) return;
  fail(ErrorKind::invalid_argument, "version ", printable(version), ": must be as v1.0 or v1.0.1");
}

void set_text(Json& json, std::string_view key, const std::string& value) {
  if (!value.empty()) json.set(key, value);
}

/// To so many digits after the point.
double rounded(double value, int digits) {
  const double unit = std::pow(10, digits);
  return std::round(value * unit) / unit;
}

/// The state_dict that is saved.
TensorMap tensors_of(const Checkpoint& checkpoint, bool ema) {
  if (!ema) return checkpoint.weights;
  if (checkpoint.ema.empty())
    fail(ErrorKind::invalid_argument, "the checkpoint of step ", checkpoint.state.step,
         " has no average of the weights; train with --ema");
  TensorMap tensors = checkpoint.ema;
  const auto frequencies = checkpoint.weights.find(kFrequencies);
  if (frequencies != checkpoint.weights.end()) tensors.insert(*frequencies);
  return tensors;
}

/// What was measured at the checkpoint's step, of the weights that are saved; of a step without validation
/// the loss alone.
Json metrics_of(const RunState& state, bool ema, const TrainResult& result) {
  Json metrics(Json::Object{});
  if (!ema && result.step == state.step) metrics.set("loss", result.last_loss);
  if (!state.history.is_array()) return metrics;
  for (const Json& entry : state.history.as_array()) {
    const Json* step = entry.find("step");
    if (!step || *step != Json(state.step)) continue;
    for (const auto& [name, key] : ema ? std::span<const MetricName>(kAverageMetrics) : kMetrics)
      if (const Json* value = entry.find(key); value && value->is_number()) metrics.set(name, *value);
  }
  return metrics;
}

Json training_args_of(const RunState& state) {
  Json args(Json::Object{});
  if (const Json* block = state.options.find("block")) args.set("block_size", *block);
  if (!state.options.is_object()) return args;
  for (const auto& [key, value] : state.options.as_object())
    if (key != "block") args.set(key, value);
  return args;
}

std::vector<float> horizon_of(const RunState& state) {
  const Json* horizon = state.options.find("horizon");
  return horizon ? horizon_from_json(*horizon) : std::vector<float>();
}

Json best_of(const RunState& state) {
  if (!state.best) return {};
  Json best;
  if (const Json* metric = state.options.find("metric")) best.set("metric", *metric);
  best.set("value", *state.best).set("step", state.best_step);
  return best;
}

/// training_metadata.json: all of it, as it is.
Json training_metadata(const RunState& state, bool ema, const TrainingFacts& facts) {
  Json json;
  set_text(json, "version", facts.version);
  json.set("created", utc_now());
  set_text(json, "started", state.started);
  json.set("bdh_version", kVersion);
  set_text(json, "source", state.source);
  json.set("weights", ema ? "average" : "last");
  json.set("step", state.step).set("epoch", state.epoch).set("optimizer_step", state.optimizer_step);
  if (ema) json.set("ema_step", state.ema_step);
  json.set("tokens", state.tokens).set("seconds", state.seconds);
  json.set("metrics", metrics_of(state, ema, facts.result)).set("best", best_of(state));
  set_text(json, "dataset", facts.dataset);
  set_text(json, "dataset_sha256", state.data_hash);
  set_text(json, "validation_sha256", state.validation_hash);
  set_text(json, "tokenizer_sha256", state.tokenizer_hash);
  set_text(json, "hardware", facts.hardware);
  set_text(json, "command", facts.command);
  json.set("config", state.config).set("options", state.options).set("history", state.history);
  return json;
}

/// The card's rows: the same for people.
Json training_summary(const RunState& state, bool ema, const TrainingFacts& facts) {
  Json json;
  set_text(json, "version", facts.version);
  json.set("date", utc_now().substr(0, 10));
  set_text(json, "dataset", facts.dataset);
  set_text(json, "dataset_sha256", state.data_hash);
  json.set("steps", state.step).set("tokens", state.tokens).set("seconds", rounded(state.seconds, 0));
  set_text(json, "hardware", facts.hardware);
  if (ema) json.set("weights", "their average over training");
  const Json metrics = metrics_of(state, ema, facts.result);
  for (const auto& [name, value] : metrics.as_object()) json.set(name, rounded(value.as_number(), 4));
  set_text(json, "command", facts.command);
  return json;
}

/// The caller's fields, and ours where the caller has none of that name.
Json details_of(const Json& given, const RunState& state, bool ema, const TrainingFacts& facts) {
  Json details = given.is_object() ? given : Json(Json::Object{});
  if (!details.find("name")) set_text(details, "name", facts.name);
  if (!details.find("training")) details.set("training", training_summary(state, ema, facts));
  return details;
}

NamedFiles training_files(const RunState& state, bool ema, const TrainingFacts& facts) {
  NamedFiles files;
  files[kTrainingMetadataFile] = training_metadata(state, ema, facts).dump(2, NonFinite::python) + "\n";
  if (!facts.curve.empty()) files[kTrainingPictureFile] = read_text(facts.curve, kMaxPictureBytes);
  return files;
}

}  // namespace

ModelSaver::ModelSaver(std::shared_ptr<const Tokenizer> tokenizer, TokenizerSource tokenizer_source,
                       SaveOptions options)
    : tokenizer_(std::move(tokenizer)), source_(std::move(tokenizer_source)), options_(std::move(options)) {}

std::vector<std::string> ModelSaver::save(const std::filesystem::path& directory,
                                          const Checkpoint& checkpoint, bool ema,
                                          const TrainingFacts& facts) const {
  require_version(facts.version);
  const RunState& state = checkpoint.state;
  std::vector<std::string> told;
  Model model;
  model.weights = std::make_shared<const Weights>(Config::from_json(state.config, "the checkpoint's config"),
                                                  tensors_of(checkpoint, ema), make_backend("cpu", 1),
                                                  std::nullopt, "the checkpoint", &told);
  model.tokenizer = tokenizer_;
  model.tokenizer_source = source_;
  SaveOptions options = options_;
  options.overwrite = true;
  options.training_args = training_args_of(state);
  options.training_files = training_files(state, ema, facts);
  options.details = details_of(options_.details, state, ema, facts);
  if (!options.generation) options.generation.emplace();
  if (std::vector<float> horizon = horizon_of(state); !horizon.empty())
    options.generation->horizon = std::move(horizon);
  for (std::string& warning : model.save_pretrained(directory, options)) told.push_back(std::move(warning));
  return told;
}

}  // namespace bdh
