// Config: the sizes that define a BDH model, as config.json holds them.
#include "bdh/model/config.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/model/packed_layout.h"
#include "bdh/model/quantization.h"

namespace bdh {
namespace {

constexpr int64_t kMaxLayers = 65536;
constexpr int64_t kMaxVocabulary = std::numeric_limits<int32_t>::max();
constexpr size_t kNamesInWarning = 256;

struct SizeField {
  std::string_view name;
  int64_t Config::*value;
};

constexpr std::array kSizes{
    SizeField{"n_layer", &Config::n_layer},
    SizeField{"n_embd", &Config::n_embd},
    SizeField{"n_head", &Config::n_head},
    SizeField{"mlp_internal_dim_multiplier", &Config::mlp_internal_dim_multiplier},
    SizeField{"vocab_size", &Config::vocab_size},
};

// Parts of names that switch functions in BDH code: what is meant by a key with one of them should be looked
// at.
constexpr std::array<std::string_view, 28> kSwitchParts{
    "use_",  "enable", "attn",  "attention",  "rope",       "rotary", "theta",
    "alibi", "slope",  "mask",  "sparse",     "topk",       "top_k",  "hebb",
    "fast_", "window", "scale", "softmax",    "norm",       "gate",   "bias",
    "pos_",  "latent", "spik",  "decay_mode", "activation", "causal", "variant"};

constexpr std::array<std::string_view, 15> kTransformersKeys{"max_position_embeddings",
                                                             "sliding_window",
                                                             "model_type",
                                                             "architectures",
                                                             "auto_map",
                                                             "dtype",
                                                             "torch_dtype",
                                                             "eos_token_id",
                                                             "bos_token_id",
                                                             "transformers_version",
                                                             "pad_token_id",
                                                             "use_cache",
                                                             "tie_word_embeddings",
                                                             "tokenizer_class",
                                                             "_name_or_path"};

/// The product, or nothing when it exceeds int64. Factors must not be negative.
std::optional<int64_t> product(std::initializer_list<int64_t> factors) {
  int64_t result = 1;
  for (const int64_t factor : factors)
    if (__builtin_mul_overflow(result, factor, &result)) return {};
  return result;
}

/// The largest allocation a model of this size implies, in bytes, can be counted: parameters as float64, and
/// the state.
bool countable(const Config& c) {
  const auto matrices = product({24, c.sets(), c.mlp_internal_dim_multiplier, c.n_embd, c.n_embd});
  const auto vocabulary = product({16, c.vocab_size, c.n_embd});
  const auto state = product({4, c.n_layer, c.mlp_internal_dim_multiplier, c.n_embd, c.n_embd});
  int64_t sum = 0;
  return matrices && vocabulary && state && !__builtin_add_overflow(*matrices, *vocabulary, &sum);
}

/// What is wrong with the sizes, or nothing.
std::string problem(const Config& c) {
  for (const SizeField& field : kSizes)
    if (c.*field.value <= 0) return concat(field.name, " must be positive, not ", c.*field.value);
  if (c.n_layer > kMaxLayers) return concat("n_layer must be at most ", kMaxLayers, ", not ", c.n_layer);
  if (c.vocab_size > kMaxVocabulary)
    return concat("vocab_size must be at most ", kMaxVocabulary, ", not ", c.vocab_size);
  if (!(c.dropout >= 0 && c.dropout < 1)) return concat("dropout must be in [0, 1), not ", c.dropout);
  if (!countable(c))
    return concat("n_layer ", c.n_layer, ", n_embd ", c.n_embd, ", mlp_internal_dim_multiplier ",
                  c.mlp_internal_dim_multiplier, " and vocab_size ", c.vocab_size,
                  " make a model whose bytes cannot be counted in 63 bits");
  const int64_t neurons = c.neurons_per_head();
  if (neurons < 2 || neurons % 2 != 0)
    return concat("neurons per head must be even and at least 2, because they rotate in pairs, but ",
                  "mlp_internal_dim_multiplier ", c.mlp_internal_dim_multiplier, " * n_embd ", c.n_embd,
                  " / n_head ", c.n_head, " is ", neurons);
  return {};
}

template <class Read>
auto read_field(const Json& value, std::string_view key, std::string_view source, Read read) {
  try {
    return read(value);
  } catch (const Error& error) {
    fail(ErrorKind::bad_file, source, ": ", key, ": ", error.what());
  }
}

[[noreturn]] void refuse_quantization(std::string_view source, std::string_view key, const Json* value,
                                      std::string_view known) {
  fail(ErrorKind::unsupported, source, ": quantization_config: ", key, " is ",
       value ? value->dump() : "missing", "; bdh reads ", known);
}

/// {"quant_method": "bdh", "bits": 8} or, with "group_size": 32, "bits": 4; "layout": "packed" with either or
/// without bits.
void read_quantization(Config& config, const Json& json, std::string_view source) {
  if (json.is_null()) return;
  if (!json.is_object()) fail(ErrorKind::bad_file, source, ": quantization_config must be an object");
  const Json *method = json.find("quant_method"), *bits = json.find("bits"), *group = json.find("group_size"),
             *layout = json.find("layout");
  if (!method || *method != Json("bdh"))
    refuse_quantization(source, "quant_method", method,
                        "\"bdh\", which bdh quantize writes; take the weights from before quantization");
  if (layout && *layout != Json(kPackedLayout)) refuse_quantization(source, "layout", layout, "\"packed\"");
  const bool needed = !layout || bits;
  if (needed && (!bits || (*bits != Json(8) && *bits != Json(4))))
    refuse_quantization(source, "bits", bits, "8 and 4");
  const bool four = bits && *bits == Json(4);
  if (four && (!group || *group != Json(kQuantizationGroup)))
    refuse_quantization(source, "group_size", group, "32 with 4 bits");
  for (const auto& [key, value] : json.as_object()) {
    const bool known =
        key == "quant_method" || key == "bits" || key == "layout" || (four && key == "group_size");
    if (!known)
      refuse_quantization(source, printable(key), &value,
                          "quant_method, bits, layout and, with 4 bits, group_size");
  }
  config.weight_bits = bits ? bits->as_integer() : 0;
  config.packed = layout != nullptr;
}

Json quantization_json(const Config& config) {
  Json::Object json{{"quant_method", "bdh"}};
  if (config.weight_bits != 0) json.emplace_back("bits", config.weight_bits);
  if (config.weight_bits == 4) json.emplace_back("group_size", kQuantizationGroup);
  if (config.packed) json.emplace_back("layout", kPackedLayout);
  return json;
}

/// True when the key is one of ours.
bool read_member(Config& config, const Json::Member& member, std::string_view source) {
  const std::string& key = member.first;
  const Json& value = member.second;
  if (key == "dropout") {
    config.dropout = read_field(value, key, source, [](const Json& j) { return j.as_number(); });
    return true;
  }
  if (key == "tie_layers") {
    config.tie_layers = read_field(value, key, source, [](const Json& j) { return j.as_bool(); });
    return true;
  }
  if (key == "quantization_config") {
    read_quantization(config, value, source);
    return true;
  }
  const auto field =
      std::find_if(kSizes.begin(), kSizes.end(), [&](const SizeField& f) { return f.name == key; });
  if (field == kSizes.end()) return false;
  config.*(field->value) = read_field(value, key, source, [](const Json& j) { return j.as_integer(); });
  return true;
}

/// The key may make the model another function.
bool looks_like_a_switch(std::string_view key) {
  return std::any_of(kSwitchParts.begin(), kSwitchParts.end(),
                     [&](std::string_view part) { return key.find(part) != key.npos; });
}

/// Those that look like a switch first.
std::string unknown_keys_warning(std::vector<std::string> keys, std::string_view source) {
  std::stable_partition(keys.begin(), keys.end(), looks_like_a_switch);
  std::string names;
  for (size_t i = 0; i < std::min(keys.size(), kNamesInWarning); ++i)
    names += (i ? ", " : "") + printable(keys[i]);
  if (keys.size() > kNamesInWarning) names += concat(" and ", keys.size() - kNamesInWarning, " more");
  return concat(source, ": unknown keys kept but not used: ", names);
}

}  // namespace

int64_t Config::parameters() const {
  return 3 * sets() * n_head * neurons_per_head() * n_embd + 2 * vocab_size * n_embd;
}

int64_t Config::state_bytes() const {
  return static_cast<int64_t>(sizeof(float)) * n_layer * n_head * neurons_per_head() * n_embd;
}

void Config::validate() const {
  const std::string wrong = problem(*this);
  if (!wrong.empty()) fail(ErrorKind::invalid_argument, "config: ", wrong);
}

Config Config::from_json(const Json& json, std::string_view source, std::vector<std::string>* warnings) {
  if (!json.is_object())
    fail(ErrorKind::bad_file, source, ": must hold a JSON object with the model's sizes");
  Config config;
  std::vector<std::string> unknown;
  for (const Json::Member& member : json.as_object()) {
    if (read_member(config, member, source)) continue;
    config.extra.push_back(member);
    if (!is_written_by_transformers(member.first)) unknown.push_back(member.first);
  }
  if (warnings && !unknown.empty()) warnings->push_back(unknown_keys_warning(unknown, source));
  const std::string wrong = problem(config);
  if (!wrong.empty()) fail(ErrorKind::bad_file, source, ": ", wrong);
  return config;
}

Json Config::to_json() const {
  Json::Object object{{"n_layer", n_layer},
                      {"n_embd", n_embd},
                      {"dropout", dropout},
                      {"n_head", n_head},
                      {"mlp_internal_dim_multiplier", mlp_internal_dim_multiplier},
                      {"vocab_size", vocab_size}};
  if (!tie_layers) object.emplace_back("tie_layers", false);
  if (weight_bits != 0 || packed) object.emplace_back("quantization_config", quantization_json(*this));
  object.insert(object.end(), extra.begin(), extra.end());
  return object;
}

bool is_written_by_transformers(std::string_view key) {
  return std::find(kTransformersKeys.begin(), kTransformersKeys.end(), key) != kTransformersKeys.end();
}

}  // namespace bdh
