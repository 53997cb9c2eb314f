// From what a weights file holds to a config and tensors as the reference has them.
#include "bdh/pretrained/dialects/importer.h"

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "bdh/base/printable.h"
#include "bdh/model/packed_layout.h"
#include "bdh/model/quantization.h"
#include "bdh/model/weights.h"
#include "bdh/pretrained/dialects/dialects.h"
#include "bdh/pretrained/dialects/rearrange.h"

namespace bdh {
namespace {

constexpr size_t kNamesInMessage = 6;
constexpr std::array<std::string_view, 6> kParameters{"decoder", "encoder",    "encoder_v",
                                                      "lm_head", "attn.freqs", "embed.weight"};

/// "encoder" or "encoder.3" is one of the reference's names, and so are those of quantized weights' scales
/// and of packed rows.
bool is_parameter(std::string_view name) {
  for (const std::string_view part : {kScales, kRows})
    if (name.ends_with(part)) name.remove_suffix(part.size());
  const size_t dot = name.rfind('.');
  const bool numbered =
      dot != name.npos && dot + 1 < name.size() && name.find_first_not_of("0123456789", dot + 1) == name.npos;
  const std::string_view stem = numbered ? name.substr(0, dot) : name;
  return std::find(kParameters.begin(), kParameters.end(), stem) != kParameters.end();
}

Translation without_prefixes(const WeightFiles& files, const Json& config) {
  Translation model;
  model.config = config;
  model.source = files.source.string();
  for (const auto& [name, tensor] : files.state_dict()) {
    const std::string_view plain = plain_name(name);
    for (std::string_view prefix = std::string_view(name).substr(0, name.size() - plain.size());
         !prefix.empty();) {
      const size_t end = prefix.find('.') + 1;
      model.prefixes.emplace(prefix.substr(0, end));
      prefix.remove_prefix(end);
    }
    model.names.emplace(plain);
    if (model.tensors.emplace(std::string(plain), tensor).second) continue;
    fail(ErrorKind::bad_file, model.source, ": tensor ", printable(plain),
         " stands more than once, with and without prefix; save one state_dict alone");
  }
  for (const auto& [name, error] : files.unreadable()) model.names.emplace(plain_name(name));
  return model;
}

// A model whose whole state_dict is in 16 bits has run with the frequencies unrounded, but for eberlful/BDH,
// which rounds them too.
void keep_rounded_frequencies(Translation& model) {
  const auto found = model.tensors.find("attn.freqs");
  if (found == model.tensors.end() || !model.prefixes.contains("network.")) return;
  if (is_weight_dtype(found->second.dtype)) found->second = converted(found->second, DType::f32);
}

/// A parameter that could not be read is what is wrong with the file, whatever else is.
void refuse_unreadable(const std::map<std::string, Error>& unreadable) {
  for (const auto& [name, error] : unreadable) {
    if (is_parameter(plain_name(name))) throw Error(error);
  }
}

void refuse_other_function(const Dialect& dialect, const Translation& model) {
  if (dialect.differs.empty()) return;
  fail(ErrorKind::unsupported, model.source, ": its tensors are those of ", dialect.origin, ": ",
       dialect.differs,
       "; that is another function than BDH's reference, which is the one that bdh computes");
}

/// Something else than a BDH model: no tensor of it is one that any dialect has.
void refuse_unknown(const ImportedTensors& weights, const std::string& source) {
  const bool parts = std::any_of(weights.tensors.begin(), weights.tensors.end(),
                                 [](const auto& tensor) { return is_parameter(tensor.first); });
  if (parts || !weights.dialect.empty() || weights.strangers.empty()) return;
  std::string names;
  for (size_t i = 0; i < std::min(weights.strangers.size(), kNamesInMessage); ++i)
    names += concat(i ? ", " : "", printable(weights.strangers[i]));
  fail(
      ErrorKind::unsupported, source, ": its tensors (", names,
      weights.strangers.size() > kNamesInMessage ? ", ..." : "",
      ") are those of no BDH model that bdh knows; a BDH model has decoder, encoder, encoder_v, lm_head and ",
      "embed.weight");
}

void refuse_strangers(const ImportedTensors& weights, const std::string& source) {
  for (const std::string& name : weights.strangers) {
    const std::string_view meaning = meaning_of_stranger(name);
    if (meaning.empty()) continue;
    fail(ErrorKind::unsupported, source, ": tensor ", printable(name), " says that the model has ", meaning,
         "; that is another function than BDH's reference, which is the one that bdh computes");
  }
}

/// What the tensors say of the sizes; only floats do.
struct Found {
  std::optional<int64_t> layers, width, heads, neurons, vocabulary;
};

Found sizes_of(const TensorMap& tensors) {
  Found found;
  auto encoder = tensors.find("encoder");
  if (encoder == tensors.end()) encoder = tensors.find("encoder.0");
  if (encoder != tensors.end() && encoder->second.shape.size() == 3 &&
      is_weight_dtype(encoder->second.dtype)) {
    found.heads = encoder->second.shape[0];
    found.width = encoder->second.shape[1];
    found.neurons = encoder->second.shape[2];
  }
  const auto embed = tensors.find("embed.weight");
  if (embed != tensors.end() && embed->second.shape.size() == 2) found.vocabulary = embed->second.shape[0];
  int64_t layers = 0;
  while (tensors.contains(concat("encoder.", layers))) ++layers;
  if (layers > 0) found.layers = layers;
  return found;
}

/// The multiplier M with N = M * D / H, rounded down.
std::optional<int64_t> multiplier_of(const Found& found) {
  if (!found.neurons || *found.width <= 0 || *found.heads <= 0 || *found.neurons <= 0) return {};
  int64_t product = 0;
  if (__builtin_mul_overflow(*found.neurons, *found.heads, &product)) return {};
  return product / *found.width + (product % *found.width != 0);
}

void complete(Json& config, std::string_view key, const std::optional<int64_t>& value) {
  const Json* said = config.find(key);
  const bool usable = said && !said->is_null() && !said->is_string();
  if (value && !usable) config.set(key, *value);
}

[[noreturn]] void fail_without_layers(const std::string& source, bool config_is_there) {
  if (config_is_there) {
    fail(ErrorKind::bad_file, source, ": no config says n_layer, how often the model's layers are repeated, ",
         "and its tensors do not tell; write it into config.json");
  }
  fail(ErrorKind::not_found, "'", source,
       "' has no config.json beside it; name one (--config FILE) that says ",
       "n_layer, how often the model's layers are repeated: its tensors do not tell");
}

void complete_sizes(Json& config, const TensorMap& tensors) {
  const Found found = sizes_of(tensors);
  complete(config, "n_layer", found.layers);
  complete(config, "n_embd", found.width);
  complete(config, "n_head", found.heads);
  complete(config, "mlp_internal_dim_multiplier", multiplier_of(found));
  complete(config, "vocab_size", found.vocabulary);
  if (found.layers && !config.find("tie_layers")) config.set("tie_layers", false);
}

/// A weights file that says another layout than config.json.
void require_layout(const SafetensorsFile& file, const Config& config) {
  const auto said = file.metadata().find(kLayoutKey);
  const bool packed = said != file.metadata().end();
  const std::string source = file.path().string();
  if (packed && said->second != kPackedLayout)
    fail(ErrorKind::unsupported, source, ": metadata ", kLayoutKey, " is ", printable(said->second),
         "; bdh reads packed");
  if (packed && !config.packed)
    fail(ErrorKind::bad_file, source,
         ": its metadata says that the weights are packed, but config.json has no ",
         "quantization_config that says so; the two belong to different models");
  if (!packed && config.packed)
    fail(ErrorKind::bad_file, source,
         ": config.json says that the weights are packed, but the file's metadata ",
         "does not; the two belong to different models");
}

void require_layout(const WeightFiles& files, const Config& config) {
  for (const SafetensorsFile& file : files.files) require_layout(file, config);
  if (config.packed && files.files.empty())
    fail(ErrorKind::bad_file, files.source.string(), ": config.json says that the weights are packed, which ",
         "PyTorch's files never are; the two belong to different models");
}

}  // namespace

ImportedTensors import_tensors(const WeightFiles& files, const Json& config) {
  Translation model = without_prefixes(files, config);
  refuse_unreadable(files.unreadable());
  keep_rounded_frequencies(model);
  ImportedTensors imported;
  if (const Dialect* dialect = dialect_of(model)) {
    refuse_other_function(*dialect, model);
    dialect->translate(model);
    imported.dialect = dialect->name;
    imported.origin = dialect->origin;
    imported.remark = dialect->remark;
  }
  for (auto tensor = model.tensors.begin(); tensor != model.tensors.end();) {
    const bool inert = !is_parameter(tensor->first) && is_inert(tensor->first);
    if (!inert && !is_parameter(tensor->first)) imported.strangers.push_back(tensor->first);
    tensor = inert ? model.tensors.erase(tensor) : std::next(tensor);
  }
  for (const auto& [name, error] : files.unreadable()) {
    if (!is_inert(name)) imported.strangers.push_back(name);
  }
  imported.tensors = std::move(model.tensors);
  refuse_strangers(imported, model.source);
  return imported;
}

ImportedModel import_model(const WeightFiles& files, const ConfigSource& given,
                           std::vector<std::string>* warnings) {
  std::vector<ConfigSource> sources;
  if (!given.values.is_null()) sources.push_back(given);
  if (ConfigSource own = own_config(files.values(), files.source.string()); !own.values.is_null())
    sources.push_back(std::move(own));
  for (const ConfigSource& source : sources) refuse_other_functions(source);
  refuse_other_functions(files.values(), files.source.string());
  Json config = agreed_config(sources, warnings);
  ImportedModel model;
  model.weights = import_tensors(files, config);
  refuse_unknown(model.weights, files.source.string());
  if (warnings && !model.weights.remark.empty())
    warnings->push_back(concat(files.source.string(), ": ", model.weights.remark));
  complete_sizes(config, model.weights.tensors);
  const std::string weights = files.source.string();
  if (!config.find("n_layer")) fail_without_layers(weights, !sources.empty());
  model.config = Config::from_json(config, sources.empty() ? weights : sources.front().name, warnings);
  require_layout(files, model.config);
  return model;
}

}  // namespace bdh
