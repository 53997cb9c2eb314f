// A checkpoint as safetensors: tensors under prefixes that say what they are, everything else in
// __metadata__, both behind a hash.
#include "bdh/train/checkpoint.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <string_view>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/printable.h"
#include "bdh/base/sha256.h"
#include "bdh/base/tensor_hash.h"
#include "bdh/base/version.h"
#include "bdh/formats/safetensors.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kVersionOfCheckpoints = 1;
constexpr size_t kLargestMeta = size_t{100} << 20;

constexpr const char* kRun = "bdh.run";
constexpr const char* kMetric = "bdh.metric";
constexpr const char* kRunHash = "bdh.run_sha256";
constexpr const char* kTensorsHash = "bdh.tensors_sha256";
constexpr const char* kCheckpointVersion = "bdh.checkpoint_version";
constexpr const char* kBdhVersion = "bdh.version";

constexpr const char* kBaseHash = "base_hash";  // which runs without adapters once lacked

constexpr std::string_view kExpAvg = "exp_avg.", kExpAvgSq = "exp_avg_sq.", kEma = "ema.",
                           kCarried = "carried.";

// ---- the state ----

// Every field of a RunState by its key, in the order in which it is written.
template <class State, class Visitor>
void visit_fields(State& state, Visitor visit) {
  visit("step", state.step), visit("epoch", state.epoch), visit("optimizer_step", state.optimizer_step);
  visit("ema_step", state.ema_step), visit("tokens", state.tokens), visit("seconds", state.seconds);
  visit("seed", state.seed), visit("loss_scale", state.loss_scale), visit("good_steps", state.good_steps);
  visit("data_hash", state.data_hash), visit("validation_hash", state.validation_hash);
  visit("tokenizer_hash", state.tokenizer_hash), visit("order_hash", state.order_hash);
  visit(kBaseHash, state.base_hash);
  visit("best", state.best), visit("best_step", state.best_step);
  visit("stale_validations", state.stale_validations), visit("statistics", state.statistics);
  visit("history", state.history), visit("schedule", state.schedule), visit("options", state.options);
  visit("config", state.config), visit("carried_position", state.carried_position);
  visit("started", state.started), visit("source", state.source);
}

Json json_of(const std::optional<double>& number) { return number ? Json(*number) : Json(); }
template <class Value>
Json json_of(const Value& value) {
  return Json(value);
}

// Reads the fields of one object. Every error names source and key.
class FieldReader {
 public:
  FieldReader(const Json& json, std::string_view source) : json_(json), source_(source) {}

  template <class Value>
  void operator()(std::string_view key, Value& value) const {
    try {
      const Json* member = json_.find(key);
      if (!member && key == kBaseHash) return;
      if (!member) fail(ErrorKind::bad_file, "it is missing");
      read(key, *member, value);
    } catch (const Error& error) {
      fail(ErrorKind::bad_file, source_, ": the run's state: '", key, "': ", error.what(),
           "; take another checkpoint");
    }
  }

 private:
  static void read(std::string_view key, const Json& member, int64_t& value) {
    value = member.as_integer();
    if (value < (key == "carried_position" ? -1 : 0)) fail(ErrorKind::bad_file, "it is negative");
  }
  static void read(std::string_view, const Json& member, double& value) { value = member.as_number(); }
  static void read(std::string_view, const Json& member, std::string& value) { value = member.as_string(); }
  static void read(std::string_view, const Json& member, Json& value) { value = member; }
  static void read(std::string_view, const Json& member, std::optional<double>& value) {
    value = member.is_null() ? std::nullopt : std::optional(member.as_number());
  }
  // All 64 bits of it.
  static void read(std::string_view, const Json& member, uint64_t& value) {
    const std::string digits = member.is_integer() ? member.dump() : "";
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (digits.empty() || error != std::errc() || end != digits.data() + digits.size())
      fail(ErrorKind::bad_file, "it is no whole number of 64 bits");
  }

  const Json& json_;
  std::string_view source_;
};

// ---- tensors ----

void add_prefixed(TensorMap& all, std::string_view prefix, const TensorMap& tensors, const fs::path& file) {
  for (const auto& [name, tensor] : tensors) {
    if (all.emplace(concat(prefix, name), tensor).second) continue;
    fail(ErrorKind::invalid_argument, "cannot write ", file.string(), ": two tensors would have the name ",
         printable(concat(prefix, name)), "; rename the model's");
  }
}

TensorMap tensors_of(const Checkpoint& checkpoint, const fs::path& file) {
  TensorMap all = checkpoint.weights;
  add_prefixed(all, kExpAvg, checkpoint.exp_avg, file);
  add_prefixed(all, kExpAvgSq, checkpoint.exp_avg_sq, file);
  add_prefixed(all, kEma, checkpoint.ema, file);
  add_prefixed(all, kCarried, checkpoint.carried, file);
  return all;
}

// The map that a tensor of that name belongs to; takes the prefix away.
TensorMap& place_of(Checkpoint& checkpoint, std::string_view& name) {
  const std::array<std::pair<std::string_view, TensorMap*>, 4> places{{{kExpAvg, &checkpoint.exp_avg},
                                                                       {kExpAvgSq, &checkpoint.exp_avg_sq},
                                                                       {kEma, &checkpoint.ema},
                                                                       {kCarried, &checkpoint.carried}}};
  for (const auto& [prefix, place] : places) {
    if (!name.starts_with(prefix)) continue;
    name.remove_prefix(prefix.size());
    return *place;
  }
  return checkpoint.weights;
}

// What training goes on with must be float32, and moments and averages those of the weights.
void check_tensors(const Checkpoint& checkpoint, const std::string& source, ErrorKind kind) {
  const auto bad = [&](std::string_view prefix, const std::string& name, std::string_view reason) {
    fail(kind, source, ": tensor ", printable(concat(prefix, name)), " ", reason,
         "; it is no checkpoint that training can go on from");
  };
  const std::array<std::pair<std::string_view, const TensorMap*>, 5> all{{{"", &checkpoint.weights},
                                                                          {kExpAvg, &checkpoint.exp_avg},
                                                                          {kExpAvgSq, &checkpoint.exp_avg_sq},
                                                                          {kEma, &checkpoint.ema},
                                                                          {kCarried, &checkpoint.carried}}};
  for (const auto& [prefix, tensors] : all) {
    for (const auto& [name, tensor] : *tensors) {
      if (tensor.dtype != DType::f32) bad(prefix, name, "is not float32");
      if (prefix == kCarried) continue;
      const auto weight = checkpoint.weights.find(name);
      if (weight == checkpoint.weights.end()) bad(prefix, name, "belongs to no tensor of the model");
      if (weight->second.shape != tensor.shape) bad(prefix, name, "has another shape than the model's");
    }
  }
  for (const auto& [name, tensor] : checkpoint.exp_avg)
    if (!checkpoint.exp_avg_sq.contains(name)) bad(kExpAvgSq, name, "is missing");
  for (const auto& [name, tensor] : checkpoint.exp_avg_sq)
    if (!checkpoint.exp_avg.contains(name)) bad(kExpAvg, name, "is missing");
}

// ---- the header ----

std::string hash_of_run(std::string_view run, std::string_view metric) {
  Sha256 sum;
  for (const std::string_view part : {run, std::string_view("\n"), metric})
    sum.add(std::as_bytes(std::span(part.data(), part.size())));
  return sum.finish();
}

[[noreturn]] void fail_damaged(const SafetensorsFile& file, std::string_view what) {
  fail(ErrorKind::bad_file, file.path().string(), ": ", what,
       " differ from their hash; the checkpoint is damaged, take another one");
}

const std::string& value_in(const SafetensorsFile& file, const char* key) {
  const auto found = file.metadata().find(key);
  if (found != file.metadata().end()) return found->second;
  fail(ErrorKind::bad_file, file.path().string(), ": is no checkpoint of a training run, its metadata lacks ",
       key, "; to start from its weights, give it to --from");
}

void check_version(const SafetensorsFile& file) {
  const std::string& text = value_in(file, kCheckpointVersion);
  int64_t version = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  if (error != std::errc() || end != text.data() + text.size() || version < 1) {
    fail(ErrorKind::bad_file, file.path().string(), ": its version of checkpoints is ", printable(text),
         ", no number; the checkpoint is damaged, take another one");
  }
  if (version <= kVersionOfCheckpoints) return;
  fail(ErrorKind::unsupported, file.path().string(), ": is a checkpoint of version ", version,
       ", this bdh reads ", kVersionOfCheckpoints, "; use the bdh that wrote it, or a later one");
}

CheckpointHeader header_of(const SafetensorsFile& file) {
  check_version(file);
  const std::string& run = value_in(file, kRun);
  const std::string& metric = value_in(file, kMetric);
  if (value_in(file, kRunHash) != hash_of_run(run, metric)) fail_damaged(file, "the run's state");
  CheckpointHeader header;
  const std::string source = file.path().string();
  header.state = RunState::from_json(Json::parse(run, source + ": " + kRun), source);
  const Json value = Json::parse(metric, source + ": " + kMetric);
  if (!value.is_null()) header.metric = value.as_number();
  return header;
}

Metadata metadata_of(const Checkpoint& checkpoint, const TensorMap& tensors) {
  const std::string run = checkpoint.state.to_json().dump(0, NonFinite::python);
  const std::string metric = json_of(checkpoint.metric).dump(0, NonFinite::python);
  return {{"format", "pt"},
          {kCheckpointVersion, std::to_string(kVersionOfCheckpoints)},
          {kBdhVersion, kVersion},
          {kRun, run},
          {kMetric, metric},
          {kRunHash, hash_of_run(run, metric)},
          {kTensorsHash, hash_of(tensors)}};
}

Json meta_of(const SafetensorsFile& file) {
  const CheckpointHeader header = header_of(file);
  const auto version = file.metadata().find(kBdhVersion);
  Json meta = Json::Object{};
  meta.set("tensors", file.path().filename().string()).set("tensors_sha256", value_in(file, kTensorsHash));
  meta.set("version", version == file.metadata().end() ? Json() : Json(version->second));
  meta.set("metric", json_of(header.metric));
  const Json state = header.state.to_json();
  for (const auto& [key, value] : state.as_object()) meta.set(key, value);
  return meta;
}

bool says(const fs::path& meta, const std::string& text) {
  try {
    return read_text(meta, kLargestMeta) == text;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

Json RunState::to_json() const {
  Json json = Json::Object{};
  visit_fields(*this, [&](const char* key, const auto& value) { json.set(key, json_of(value)); });
  return json;
}

RunState RunState::from_json(const Json& json, std::string_view source) {
  RunState state;
  visit_fields(state, FieldReader(json, source));
  return state;
}

void write_checkpoint(const fs::path& file, const Checkpoint& checkpoint) {
  check_tensors(checkpoint, "cannot write " + file.string(), ErrorKind::invalid_argument);
  const TensorMap tensors = tensors_of(checkpoint, file);
  write_safetensors(file, tensors, metadata_of(checkpoint, tensors));
  update_meta_file(file);
}

Checkpoint read_checkpoint(const fs::path& file) {
  const SafetensorsFile opened = SafetensorsFile::open(file);
  CheckpointHeader header = header_of(opened);
  Checkpoint checkpoint;
  checkpoint.state = std::move(header.state);
  checkpoint.metric = header.metric;
  TensorMap all;
  for (const TensorInfo& info : opened.tensors()) all.emplace(info.name, opened.tensor(info.name));
  if (value_in(opened, kTensorsHash) != hash_of(all)) fail_damaged(opened, "its tensors");
  for (const auto& [full_name, tensor] : all) {
    std::string_view name = full_name;
    TensorMap& place = place_of(checkpoint, name);
    place.emplace(name, tensor);
  }
  check_tensors(checkpoint, file.string(), ErrorKind::bad_file);
  return checkpoint;
}

CheckpointHeader read_checkpoint_header(const fs::path& file) {
  return header_of(SafetensorsFile::open(file));
}

RunState read_run_state(const fs::path& file) { return read_checkpoint_header(file).state; }

fs::path meta_file_of(const fs::path& file) { return fs::path(file).replace_extension(".meta.json"); }

void update_meta_file(const fs::path& file) {
  const std::string text = meta_of(SafetensorsFile::open(file)).dump(2) + "\n";
  const fs::path meta = meta_file_of(file);
  if (says(meta, text)) return;
  AtomicFile written(meta);
  written.write(text);
  written.commit();
}

}  // namespace bdh
