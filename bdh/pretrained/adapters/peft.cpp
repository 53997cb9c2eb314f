// Which tensor of PEFT's file belongs to which parameter, and what adapter_config.json makes of them.
//
// PEFT names tensors by the module that it wrapped. Several parameters of one module are wrapped one around
// the other, the first of the module's parameters innermost: "weights.base_layer.base_layer.lora_A.weight" is
// the first of three. Which were wrapped, target_parameters says.
#include "bdh/pretrained/adapters/peft.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <string_view>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/printable.h"
#include "bdh/formats/safetensors.h"
#include "bdh/model/quantization.h"
#include "bdh/pretrained/adapters/matrix.h"
#include "bdh/pretrained/weight_files.h"

namespace bdh {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMostConfigBytes = 1 << 20;
constexpr int64_t kMostRank = 1 << 20;

// ---- adapter_config.json ----

struct PeftConfig {
  int64_t rank = 0;
  double scale = 0;
  std::vector<std::string> target_parameters;
};

// What does not change what an adapter is, or is read below.
constexpr std::array kKnownKeys{"auto_mapping",
                                "base_model_name_or_path",
                                "ensure_weight_tying",
                                "eva_config",
                                "exclude_modules",
                                "inference_mode",
                                "init_lora_weights",
                                "layers_pattern",
                                "lora_alpha",
                                "lora_dropout",
                                "lora_ga_config",
                                "megatron_core",
                                "peft_type",
                                "peft_version",
                                "qalora_group_size",
                                "r",
                                "revision",
                                "runtime_config",
                                "target_modules",
                                "target_parameters",
                                "task_type",
                                "use_rslora"};

bool says_nothing(const Json& value) {
  return value.is_null() || value == Json(false) || (value.is_string() && value.as_string().empty()) ||
         (value.is_array() && value.as_array().empty()) || (value.is_object() && value.as_object().empty());
}

[[noreturn]] void refuse(const std::string& source, std::string_view key, const Json& value) {
  fail(ErrorKind::unsupported, source, ": ", printable(key), " is ", printable(value.dump()),
       ", and bdh knows no adapters with that; merge this one in PEFT (merge_and_unload) and convert the "
       "model");
}

// A start that changes the base model as well: the adapter is a change of that.
bool changes_base(const Json& init) {
  constexpr std::array kHarmless{"gaussian", "eva", "orthogonal"};
  if (init.is_bool() || init.is_null()) return false;
  return !init.is_string() ||
         std::find(kHarmless.begin(), kHarmless.end(), init.as_string()) == kHarmless.end();
}

void refuse_other_adapters(const Json& json, const std::string& source) {
  for (const auto& [key, value] : json.as_object()) {
    const bool known = std::find(kKnownKeys.begin(), kKnownKeys.end(), key) != kKnownKeys.end();
    const bool none = key == "bias" && value == Json("none");
    if (!known && !none && !says_nothing(value)) refuse(source, key, value);
    if (key == "init_lora_weights" && changes_base(value)) refuse(source, key, value);
    if (key == "peft_type" && value != Json("LORA")) refuse(source, key, value);
  }
}

std::vector<std::string> strings_of(const Json* json) {
  std::vector<std::string> strings;
  if (!json || json->is_null()) return strings;
  for (const Json& one : json->as_array()) strings.push_back(one.as_string());
  return strings;
}

const Json& required(const Json& json, const char* key, const std::string& source) {
  const Json* value = json.find(key);
  if (!value || value->is_null())
    fail(ErrorKind::bad_file, source, ": \"", key, "\" is missing; PEFT writes it");
  return *value;
}

PeftConfig read_peft_config(const fs::path& path) {
  const std::string source = path.string();
  const Json json = Json::parse(read_text(path, kMostConfigBytes), source);
  if (!json.is_object()) fail(ErrorKind::bad_file, source, ": an object was expected");
  required(json, "peft_type", source);
  refuse_other_adapters(json, source);
  PeftConfig config;
  config.rank = required(json, "r", source).as_integer();
  const double alpha = required(json, "lora_alpha", source).as_number();
  if (config.rank < 1 || config.rank > kMostRank || !std::isfinite(alpha))
    fail(ErrorKind::bad_file, source, ": r must be from 1 to ", kMostRank, " and lora_alpha a number");
  const Json* rslora = json.find("use_rslora");
  const auto rank = static_cast<double>(config.rank);
  config.scale = alpha / (rslora && *rslora == Json(true) ? std::sqrt(rank) : rank);
  config.target_parameters = strings_of(json.find("target_parameters"));
  return config;
}

// ---- names ----

// A module of our transformers model that has parameters, in its order.
struct Module {
  std::string path;
  std::vector<std::string> parameters;  // names in the state_dict
  std::vector<std::string> keys;        // PEFT's names, without the model's prefix
};

std::vector<Module> modules_of(const Config& config) {
  std::vector<Module> modules{{"embed", {"embed.weight"}, {"embed.weight"}},
                              {"output", {"lm_head"}, {"output.lm_head"}}};
  const std::array kMatrices{"decoder", "encoder", "encoder_v"};
  if (config.tie_layers) {
    Module weights{"weights", {}, {}};
    for (const char* name : kMatrices) {
      weights.parameters.emplace_back(name);
      weights.keys.push_back(concat("weights.", name));
    }
    modules.push_back(std::move(weights));
    return modules;
  }
  for (const char* name : kMatrices) {
    Module module{concat("weights.", name), {}, {}};
    for (int64_t layer = 0; layer < config.n_layer; ++layer) {
      module.parameters.push_back(concat(name, ".", layer));
      module.keys.push_back(concat("weights.", name, ".", layer));
    }
    modules.push_back(std::move(module));
  }
  return modules;
}

bool is_targeted(const std::string& key, const std::vector<std::string>& targets) {
  return std::any_of(targets.begin(), targets.end(),
                     [&](const std::string& target) { return key == target || key.ends_with("." + target); });
}

struct Place {
  std::string module;
  size_t depth = 0;  // wrappings around the one whose tensor this is
  bool is_a = false, embedding = false;
};

bool drop_end(std::string_view& name, std::string_view end) {
  if (!name.ends_with(end)) return false;
  name.remove_suffix(end.size());
  return true;
}

struct Ending {
  const char* text;
  bool is_a, embedding;
};

constexpr Ending kEndings[] = {
    {".lora_A.weight", true, false},    {".lora_A.default.weight", true, false},
    {".lora_B.weight", false, false},   {".lora_B.default.weight", false, false},
    {".lora_embedding_A", true, true},  {".lora_embedding_A.default", true, true},
    {".lora_embedding_B", false, true}, {".lora_embedding_B.default", false, true},
};

std::optional<Place> place_of(std::string_view name) {
  constexpr std::string_view kPrefix = "base_model.model.";
  if (!name.starts_with(kPrefix)) return {};
  name.remove_prefix(kPrefix.size());
  for (const Ending& ending : kEndings) {
    if (!drop_end(name, ending.text)) continue;
    Place place{{}, 0, ending.is_a, ending.embedding};
    while (drop_end(name, ".base_layer")) ++place.depth;
    place.module = name;
    return place;
  }
  return {};
}

// The parameter whose wrapping that is; none where no such wrapping was made.
std::optional<std::string> parameter_at(const Place& place, const std::vector<Module>& modules,
                                        const std::vector<std::string>& targets) {
  const auto found = std::find_if(modules.begin(), modules.end(),
                                  [&](const Module& module) { return module.path == place.module; });
  if (found == modules.end()) return {};
  if (place.embedding)
    return found->path == "embed" ? std::optional(found->parameters.front()) : std::nullopt;
  std::vector<std::string> wrapped;
  for (size_t i = 0; i < found->keys.size(); ++i)
    if (is_targeted(found->keys[i], targets)) wrapped.push_back(found->parameters[i]);
  if (place.depth >= wrapped.size()) return {};
  return wrapped[wrapped.size() - 1 - place.depth];
}

// ---- tensors ----

// PEFT's matrices for one parameter.
struct Pair {
  AdapterMatrix a, b;
  bool embedding = false;
};

using Pairs = std::map<std::string, Pair>;

Pairs pairs_of(const TensorMap& tensors, const Config& config, const PeftConfig& peft,
               const std::string& source) {
  const std::vector<Module> modules = modules_of(config);
  Pairs pairs;
  for (const auto& [name, tensor] : tensors) {
    const std::optional<Place> place = place_of(name);
    const auto parameter = place ? parameter_at(*place, modules, peft.target_parameters) : std::nullopt;
    if (!parameter)
      fail(ErrorKind::bad_file, source, ": tensor ", printable(name),
           " belongs to no parameter of this model that target_parameters and target_modules name");
    Pair& pair = pairs[*parameter];
    AdapterMatrix& matrix = place->is_a ? pair.a : pair.b;
    if (!matrix.name.empty())
      fail(ErrorKind::bad_file, source, ": tensors ", printable(matrix.name), " and ", printable(name),
           " are both of '", *parameter, "'");
    matrix = {name, tensor};
    pair.embedding = place->embedding;
  }
  return pairs;
}

Tensor transposed(const AdapterMatrix& matrix, const std::string& source) {
  const Shape &shape = matrix.tensor.shape, &strides = matrix.tensor.strides;
  return viewed(matrix, {shape[1], shape[0]}, {strides[1], strides[0]}, source);
}

LowRankUpdate update_of(const std::string& parameter, const Pair& pair, const Shape& shape,
                        const PeftConfig& peft, const std::string& source) {
  const auto& [a, b, embedding] = pair;
  if (a.name.empty() || b.name.empty())
    fail(ErrorKind::bad_file, source, ": one of the two matrices of '", parameter, "' is missing, ",
         a.name.empty() ? "lora_A" : "lora_B");
  const int64_t r = peft.rank, rows = shape[shape.size() - 2], columns = shape.back();
  LowRankUpdate update{parameter, r, peft.scale, {}, {}};
  if (embedding) {  // (B A)^T
    require_shape(a, {r, rows}, source);
    require_shape(b, {columns, r}, source);
    update.left = transposed(a, source);
    update.right = transposed(b, source);
    return update;
  }
  // Heads are PEFT's experts: A is (H r, columns), head by head; B (rows, r H), the heads side by side.
  const int64_t heads = shape.size() == 3 ? shape.front() : 1;
  require_shape(b, {rows, r * heads}, source);
  require_shape(a, {heads * r, columns}, source);
  if (shape.size() == 2) {
    update.left = floats_of(b, source);
    update.right = floats_of(a, source);
    return update;
  }
  const Shape &of_a = a.tensor.strides, &of_b = b.tensor.strides;
  update.left = viewed(b, {heads, rows, r}, {of_b[1], of_b[0], of_b[1] * heads}, source);
  update.right = viewed(a, {heads, r, columns}, {of_a[0] * r, of_a[0], of_a[1]}, source);
  return update;
}

WeightFiles open_weights(const fs::path& directory) {
  for (const char* name : {"adapter_model.safetensors", "adapter_model.bin"}) {
    if (std::error_code none; fs::exists(directory / name, none)) return open_weights_file(directory / name);
  }
  fail(ErrorKind::not_found, directory.string(),
       ": neither adapter_model.safetensors nor adapter_model.bin is there; PEFT's save_pretrained writes "
       "one");
}

// ---- saving ----

constexpr const char* kConfigFile = "adapter_config.json";
constexpr const char* kWeightsFile = "adapter_model.safetensors";

const LowRankUpdate* update_of(const LoraAdapter& adapter, const std::string& parameter) {
  const auto found = std::find_if(adapter.updates.begin(), adapter.updates.end(),
                                  [&](const LowRankUpdate& update) { return update.parameter == parameter; });
  return found == adapter.updates.end() ? nullptr : &*found;
}

Tensor reshaped(const Tensor& tensor, Shape shape) {
  Tensor view = converted(tensor, DType::f32);
  view.strides = contiguous_strides(shape);
  view.shape = std::move(shape);
  return view;
}

// As PEFT has experts: the inverse of update_of.
Tensor a_of(const LowRankUpdate& update) {
  const Shape& shape = update.right.shape;
  return shape.size() == 2 ? update.right : reshaped(update.right, {shape[0] * shape[1], shape[2]});
}

Tensor b_of(const LowRankUpdate& update) {
  const Shape shape = update.left.shape;
  if (shape.size() == 2) return update.left;
  const int64_t heads = shape[0], rows = shape[1], rank = shape[2];
  Tensor side_by_side = update.left;
  side_by_side.shape = {rows, rank, heads};
  side_by_side.strides = {rank, 1, rows * rank};
  return reshaped(side_by_side, {rows, rank * heads});
}

// Of one module, under PEFT's names: the first of its parameters that are wrapped innermost.
void add_module(const Module& module, const LoraAdapter& adapter, TensorMap& tensors, Json::Array& targets) {
  std::string wrapping = "base_model.model." + module.path;
  for (size_t i = module.parameters.size(); i-- > 0;) {
    const LowRankUpdate* update = update_of(adapter, module.parameters[i]);
    if (!update) continue;
    tensors.emplace(wrapping + ".lora_A.weight", a_of(*update));
    tensors.emplace(wrapping + ".lora_B.weight", b_of(*update));
    targets.emplace_back(module.keys[i]);
    wrapping += ".base_layer";
  }
}

Json config_json(const PeftFacts& facts, Json::Array targets) {
  return Json::Object{{"base_model_name_or_path", facts.base_model},
                      {"bias", "none"},
                      {"fan_in_fan_out", false},
                      {"inference_mode", true},
                      {"init_lora_weights", true},
                      {"lora_alpha", facts.alpha},
                      {"lora_dropout", 0.0},
                      {"modules_to_save", Json()},
                      {"peft_type", "LORA"},
                      {"r", facts.rank},
                      {"target_modules", Json::Array{}},
                      {"target_parameters", std::move(targets)},
                      {"task_type", "CAUSAL_LM"},
                      {"use_dora", false},
                      {"use_rslora", facts.rslora}};
}

}  // namespace

void save_peft_adapter(const fs::path& directory, const LoraAdapter& adapter, const Config& config,
                       const PeftFacts& facts) {
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) fail(ErrorKind::io, directory.string(), ": cannot make the folder: ", error.message());
  TensorMap tensors;
  Json::Array targets;
  for (const Module& module : modules_of(config)) add_module(module, adapter, tensors, targets);
  AtomicFile weights(directory / kWeightsFile), described(directory / kConfigFile);
  weights.write(safetensors_bytes(tensors, {{"format", "pt"}}));
  weights.sync();
  described.write(config_json(facts, std::move(targets)).dump(2) + "\n");
  described.sync();
  fs::remove(directory / kConfigFile, error);  // which would give the new matrices its scale
  weights.commit();
  described.commit();
}

LoraAdapter load_peft_adapter(const fs::path& directory, const Config& config) {
  const PeftConfig peft = read_peft_config(directory / kConfigFile);
  const WeightFiles files = open_weights(directory);
  const std::string source = files.source.string();
  for (const auto& [name, error] : files.unreadable()) throw error;
  const auto named = parameter_shapes(with_weight_bits(config, 0));
  const std::map<std::string, Shape> shapes(named.begin(), named.end());
  LoraAdapter adapter;
  for (const auto& [parameter, pair] : pairs_of(files.state_dict(), config, peft, source))
    adapter.updates.push_back(update_of(parameter, pair, shapes.at(parameter), peft, source));
  if (adapter.updates.empty()) fail(ErrorKind::bad_file, source, ": there is no tensor in it");
  return adapter;
}

}  // namespace bdh
