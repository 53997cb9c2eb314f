// Loading models to be served, and sharing memory among their sessions.
#include "tools/serve/served_models.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "bdh/base/sha256.h"
#include "bdh/pretrained/adapters/load_adapter.h"
#include "tools/registry/registry.h"
#include "tools/serve/unix_time.h"

namespace bdh::tools {
namespace {

constexpr int64_t kChunk = 64;
constexpr uint64_t kPromptShare =
    4;  // of what is kept, one prompt's beginnings take at most a part in so many

struct Named {
  std::string id, rest;
};

/// "ID=REST", where what stands before the = is no path; else an empty id.
Named named(const std::string& given) {
  const size_t equals = given.find('=');
  if (equals == 0 || equals == std::string::npos || given.find('/') < equals ||
      std::filesystem::exists(given))
    return {"", given};
  return {given.substr(0, equals), given.substr(equals + 1)};
}

std::filesystem::path registered(const std::string& name, const std::string& registry) {
  const ModelRegistry models(registry);
  return models.locate(models.named(name));
}

/// The model in a directory as `bdh train --lora` leaves one: beside the adapter, in final_merged.
std::filesystem::path model_in(const std::filesystem::path& path) {
  const std::filesystem::path merged = path / "final_merged";
  return !std::filesystem::exists(path / "config.json") && std::filesystem::exists(merged / "config.json")
             ? merged
             : path;
}

std::string fingerprint_of(const Model& model) {
  constexpr size_t kDigits = 16;
  return sha256_of(concat(model.weights->hash(), model.config().to_json().dump())).substr(0, kDigits);
}

bool same(const ServedModel& a, const ServedModel& b) {
  return a.id == b.id && a.path == b.path && a.model->config().to_json() == b.model->config().to_json() &&
         a.model->generation.to_json() == b.model->generation.to_json() &&
         a.model->weights->hash() == b.model->weights->hash();
}

}  // namespace

ServedModels::ServedModels(ServedModelsOptions options)
    : options_(std::move(options)), state_dtype_(session_options("", options_.common).state_dtype) {
  List models = load();
  share_memory(models);
  begin(models);
}

ServedModels::List ServedModels::load() const {
  const LoadOptions load = load_options(options_.common);
  List models;
  for (const std::string& given : options_.models) {
    ServedModel model = load_one(given, load);
    for (const ServedModelPointer& served : with_adapters(std::move(model))) {
      const auto has_its_id = [&](const ServedModelPointer& other) { return other->id == served->id; };
      if (std::any_of(models.begin(), models.end(), has_its_id)) {
        fail(ErrorKind::invalid_argument, "two models would be called ", served->id,
             "; give one another name: NAME=", served->path);
      }
      models.push_back(served);
    }
  }
  return models;
}

ServedModel ServedModels::load_one(const std::string& given, const LoadOptions& load) const {
  const auto [id, source] = named(given);
  const bool is_path = std::filesystem::exists(source) || source.find('/') != std::string::npos;
  const std::filesystem::path given_path =
      is_path ? std::filesystem::path(source) : registered(source, options_.registry);
  const std::filesystem::path path = model_in(given_path);
  ServedModel served;
  served.id = !id.empty() ? id : is_path ? short_name(given_path) : source;
  served.path = path.string();
  served.created = unix_time();
  served.model = std::make_shared<Model>(Model::from_pretrained(path, load));
  for (const std::string& warning : served.model->warnings) warn(concat(served.id, ": ", warning));
  stop_if_interrupted();
  return served;
}

/// The model, and for each of the adapters the same with it beside the weights, or where the backend cannot,
/// a copy with it merged in.
ServedModels::List ServedModels::with_adapters(ServedModel base) const {
  List models;
  for (const std::string& given : options_.common.adapters) {
    const auto [id, source] = named(given);
    const AppliedAdapter adapter = applied_adapter(source, base.model->config());
    ServedModel adapted = base;
    adapted.id = id.empty() ? short_name(adapter_path(source)) : id;
    adapted.parent = base.id;
    adapted.path = adapter_path(source);
    const bool beside = base.model->weights->backend().applies_adapters();
    adapted.model = std::make_shared<Model>((beside ? bdh::adapted : merged)(*base.model, {&adapter, 1}));
    models.push_back(std::make_shared<ServedModel>(std::move(adapted)));
  }
  models.insert(models.begin(), std::make_shared<ServedModel>(std::move(base)));
  return models;
}

/// The one whose weights an adapter is beside.
const ServedModel* ServedModels::base_in(const List& models, const ServedModel& adapted) {
  const Weights& weights = *adapted.model->weights;
  const auto is_base = [&](const ServedModelPointer& served) {
    return served->model->weights.get() == &weights.base();
  };
  const auto found = std::find_if(models.begin(), models.end(), is_base);
  return weights.adapter() && found != models.end() ? found->get() : nullptr;
}

/// A session of each scheduler.
uint64_t ServedModels::bytes_of_each(const List& models) const {
  uint64_t bytes = 0;
  for (const ServedModelPointer& served : models)
    bytes += base_in(models, *served) ? 0 : most_session_bytes(*served->model->weights, state_dtype_);
  return bytes;
}

/// As many texts at once as fit in three quarters of the memory for sessions; the rest is for those kept.
void ServedModels::share_memory(const List& models) {
  const uint64_t each = bytes_of_each(models);
  const uint64_t fit = options_.state_bytes / 4 * 3 / std::max<uint64_t>(each, 1);
  if (fit == 0) {
    fail(ErrorKind::out_of_memory, "--state-bytes ", options_.state_bytes, " is too little: one text ",
         models.size() > 1 ? "of each model " : "", "takes ", each, " bytes, and needs ", each / 3 * 4 + 4);
  }
  batch_ = std::min<uint64_t>(options_.batch, fit);
  if (batch_ < options_.batch) {
    note(concat(batch_, batch_ == 1 ? " text" : " texts", " at once: more do not fit in --state-bytes ",
                format_bytes(options_.state_bytes)));
  }
  states_ = std::make_shared<StateStore>(StateStoreOptions{
      options_.state_bytes - batch_ * each, options_.state_directory, options_.state_directory_bytes});
}

void ServedModels::begin(const List& models) {
  List begun;
  for (const ServedModelPointer& loaded : models) {
    ServedModel served = *loaded;
    if (!served.scheduler) begin_scheduler(served, base_in(begun, served));
    begun.push_back(loaded->scheduler ? loaded : std::make_shared<ServedModel>(std::move(served)));
  }
  const std::lock_guard lock(mutex_);
  models_ = std::move(begun);
}

void ServedModels::begin_scheduler(ServedModel& served, const ServedModel* base) const {
  const auto& weights = served.model->weights;
  weights->packed();
  served.fingerprint = fingerprint_of(*served.model);
  tokenizer_of(*served.model);
  served.shares_scheduler = base != nullptr;
  if (base) {
    served.scheduler = base->scheduler;
    return;
  }
  SchedulerOptions options{
      .most_running = batch_, .most_queued = options_.queue, .chunk = kChunk, .state_dtype = state_dtype_};
  options.prefix_cache = std::make_shared<PrefixCache>(
      states_, kChunk,
      std::max<uint64_t>(states_->max_bytes() / kPromptShare, most_session_bytes(*weights, state_dtype_)));
  served.scheduler = std::make_shared<Scheduler>(weights, served.model->tokenizer, options);
}

ServedModelPointer ServedModels::find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  if (models_.size() == 1) return models_.front();
  const auto found = std::find_if(models_.begin(), models_.end(),
                                  [&](const ServedModelPointer& served) { return served->id == id; });
  return found == models_.end() ? nullptr : *found;
}

std::vector<ServedModelPointer> ServedModels::list() const {
  const std::lock_guard lock(mutex_);
  return models_;
}

size_t ServedModels::most_session() const {
  size_t most = 0;
  for (const ServedModelPointer& served : list())
    most = std::max(most, most_session_bytes(*served->model->weights, state_dtype_));
  return most;
}

void ServedModels::reload() {
  List models = load();
  for (ServedModelPointer& loaded : models) {
    for (const ServedModelPointer& served : list())
      if (same(*served, *loaded)) loaded = served;
  }
  if (batch_ * bytes_of_each(models) > options_.state_bytes)
    fail(ErrorKind::out_of_memory, "the new models' sessions take more than --state-bytes; start anew");
  begin(models);
  std::vector<const Weights*> current;
  for (const ServedModelPointer& served : list()) current.push_back(served->model->weights.get());
  states_->keep_those_of(current);
}

void ServedModels::drain() {
  for (const ServedModelPointer& served : list()) served->scheduler->drain();
}

}  // namespace bdh::tools
