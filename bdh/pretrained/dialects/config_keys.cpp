// What others call the sizes of a model, and the keys that make it another function: two tables.
#include "bdh/pretrained/dialects/config_keys.h"

#include <algorithm>
#include <array>
#include <span>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/model/config.h"

namespace bdh {
namespace {

struct Alias {
  std::string_view name;
  std::string_view reference;
};

// In the order in which they are believed.
constexpr std::array kAliases{
    Alias{"num_hidden_layers", "n_layer"},
    Alias{"n_layers", "n_layer"},
    Alias{"num_layers", "n_layer"},
    Alias{"hidden_size", "n_embd"},
    Alias{"d_model", "n_embd"},
    Alias{"embed_dim", "n_embd"},
    Alias{"num_attention_heads", "n_head"},
    Alias{"n_heads", "n_head"},
    Alias{"num_heads", "n_head"},
    Alias{"mlp_multiplier", "mlp_internal_dim_multiplier"},
    Alias{"mlp_dim_mult", "mlp_internal_dim_multiplier"},
    Alias{"n_embed", "n_embd"},
    Alias{"tie_weights", "tie_word_embeddings"},
};

constexpr std::array<std::string_view, 5> kSizes{"n_layer", "n_embd", "n_head", "mlp_internal_dim_multiplier",
                                                 "vocab_size"};

// Where a checkpoint keeps its config, and where a config keeps its model's.
constexpr std::array<std::string_view, 10> kOwnConfigs{
    "config",           "cfg",     "model_config", "bdh_config", "bdh_params_dict",
    "hyper_parameters", "hparams", "model_args",   "args",       "training_config"};
constexpr std::array<std::string_view, 9> kSections{
    "model", "model_config", "config", "bdh", "params", "bdh_config", "model_params", "init_args", "network"};
constexpr int kMaxSections = 3;  // one in another

struct Switch {
  std::string_view key;
  std::string_view effect;
};

// What is on where it is neither false, 0, null, empty nor "none".
constexpr std::array kSwitches{
    Switch{"alibi_slope", "damps scores by distance"},
    Switch{"use_alibi", "damps scores by distance"},
    Switch{"attention_decay", "damps scores by distance"},
    Switch{"learned_attention_decay", "damps scores by distance"},
    Switch{"k_sparse_ratio", "keeps only the largest neurons"},
    Switch{"k_sparse", "keeps only the largest neurons"},
    Switch{"topk_neurons", "keeps only the largest neurons"},
    Switch{"top_k_neurons", "keeps only the largest neurons"},
    Switch{"attn_window", "reads a window of tokens alone"},
    Switch{"sliding_window", "reads a window of tokens alone"},
    Switch{"latent_token_id", "reads latent tokens in another order"},
    Switch{"hebbian_lr", "writes fast weights while it reads"},
    Switch{"hebb_lr", "writes fast weights while it reads"},
    Switch{"use_hebbian", "writes fast weights while it reads"},
    Switch{"activation_history_mix", "mixes neurons with those of earlier tokens"},
    Switch{"learned_activation_history", "mixes neurons with those of earlier tokens"},
    Switch{"adaptive_compute", "repeats its layers until the logits settle"},
    Switch{"diff_attn", "subtracts a second attention"},
    Switch{"per_head_v", "gives each head values of its own"},
    Switch{"use_abs_pos", "adds embeddings of positions"},
    Switch{"use_moe", "routes tokens to experts"},
    Switch{"use_softmax", "normalises scores"},
    Switch{"softmax", "normalises scores"},
    Switch{"use_pre_ln", "normalises before each layer"},
    Switch{"ternary", "rounds weights to three values"},
    Switch{"ternary_weights", "rounds weights to three values"},
    Switch{"spiking", "replaces ReLU by spikes"},
};

/// A key whose value makes the reference's function only where it is one of these, as JSON writes them.
struct Choice {
  std::string_view key;
  std::array<std::string_view, 5> neutral;
  std::string_view effect;
};

constexpr std::array kChoices{
    Choice{"forget_mode", {"\"none\"", "null", "\"\"", "false"}, "lets old tokens fade"},
    Choice{"architecture_variant", {"\"bdh_v1\"", "null"}, "is a variant of the model"},
    Choice{"compute_ticks", {"1", "null"}, "repeats its layers (say n_layer times compute_ticks as n_layer)"},
    Choice{"latent_reasoning_steps",
           {"1", "null", "0"},
           "repeats its layers (say n_layer times latent_reasoning_steps as n_layer)"},
    Choice{"strict_causal", {"true", "null", "1"}, "lets a token read itself"},
    Choice{"causal", {"true", "null", "1"}, "lets a token read later ones"},
    Choice{"use_rope", {"true", "null", "1"}, "does not rotate its neurons"},
    Choice{"activation",
           {"\"relu\"", "null", "\"ReLU\"", "\"torch.nn.functional.relu\"",
            "\"torch.nn.modules.activation.ReLU\""},
           "replaces ReLU"},
};

/// A key of which only these values, as JSON writes them, are known to make another function.
struct Foreign {
  std::string_view key;
  std::array<std::string_view, 4> foreign;
  std::string_view effect;
};

constexpr std::array kForeign{
    Foreign{"model", {"\"bdh-prime\"", "\"transformer\"", "\"gpt\""}, "is another architecture"},
    Foreign{"model_type", {"\"bdh_paper\"", "\"gpt\"", "\"gpt2\"", "\"bdh_hrm\""}, "is another architecture"},
    Foreign{"arch", {"\"gpt\"", "\"transformer\""}, "is another architecture"},
};

template <class Names>
bool holds(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_off(const Json& value) {
  if (value.is_bool()) return !value.as_bool();
  if (value.is_number()) return value.as_number() == 0;
  if (value.is_string()) {
    const std::string& text = value.as_string();
    return text.empty() || text == "none" || text == "None" || text == "off" || text == "false";
  }
  return value.is_null() || (value.is_array() && value.as_array().empty()) ||
         (value.is_object() && value.as_object().empty());
}

std::string_view reference_name(std::string_view key) {
  const auto found =
      std::find_if(kAliases.begin(), kAliases.end(), [&](const Alias& alias) { return alias.name == key; });
  return found == kAliases.end() ? key : found->reference;
}

bool names_sizes(const Json& values) {
  if (!values.is_object()) return false;
  const Json::Object& members = values.as_object();
  return std::any_of(members.begin(), members.end(), [](const Json::Member& member) {
    const std::string_view name = reference_name(member.first);
    return name == "n_layer" || name == "n_embd";
  });
}

/// Sizes by the letters of the paper: L, D, H, V and N neurons of all heads.
bool has_letters(const Json& values) {
  const auto whole = [&](const char* key) {
    const Json* value = values.find(key);
    return value && value->is_integer() && value->as_integer() > 0;
  };
  return whole("L") && whole("D") && whole("H");
}

Json with_letters(const Json& values) {
  Json json = values;
  for (const auto& [letter, name] :
       {std::pair{"L", "n_layer"}, {"D", "n_embd"}, {"H", "n_head"}, {"V", "vocab_size"}}) {
    if (const Json* value = values.find(letter)) json.set(name, *value);
  }
  const Json* neurons = values.find("N");
  if (neurons && neurons->is_integer())
    json.set("mlp_internal_dim_multiplier", neurons->as_integer() / values.find("D")->as_integer());
  return json;
}

/// The values themselves, or those of a section that names sizes where they do not.
const Json* section_with_sizes(const Json& values, int depth) {
  if (names_sizes(values) || has_letters(values)) return &values;
  if (depth == kMaxSections) return nullptr;
  for (const std::string_view section : kSections) {
    const Json* inner = values.find(section);
    const Json* found = inner ? section_with_sizes(*inner, depth + 1) : nullptr;
    if (found) return found;
  }
  return nullptr;
}

std::string shown(const Json& value) { return value.dump(); }

[[noreturn]] void refuse(const ConfigSource& source, std::string_view key, const Json& value,
                         std::string_view effect) {
  fail(ErrorKind::unsupported, source.name, ": ", key, " is ", shown(value), ", which ", effect,
       ": another function than BDH's reference, which is the one that bdh computes");
}

void refuse_by_keys(const ConfigSource& source, const Json& plain) {
  for (const Switch& option : kSwitches) {
    const Json* value = plain.find(option.key);
    if (value && !is_off(*value)) refuse(source, option.key, *value, option.effect);
  }
  for (const Choice& choice : kChoices) {
    const Json* value = plain.find(choice.key);
    if (value && !holds(choice.neutral, value->dump())) refuse(source, choice.key, *value, choice.effect);
  }
  for (const Foreign& foreign : kForeign) {
    const Json* value = plain.find(foreign.key);
    if (value && holds(foreign.foreign, value->dump())) refuse(source, foreign.key, *value, foreign.effect);
  }
}

bool contradict(const Json& a, const Json& b) {
  return a.is_integer() && b.is_integer() && a.as_integer() != b.as_integer();
}

struct Contradiction {
  std::string key;
  Json first, second;
};

void settle(const ConfigSource& first, const ConfigSource& second, const Contradiction& found,
            std::vector<std::string>* warnings) {
  const std::string both = concat(first.name, ": ", found.key, " is ", shown(found.first), ", but ",
                                  second.name, " says ", shown(found.second));
  if (first.asked_for)
    fail(ErrorKind::bad_file, both,
         "; one of them is another model's: name the right config (--config FILE)");
  if (warnings) {
    warnings->push_back(
        concat(both, ", which was saved with the weights and is taken; correct the first, or ", "remove it"));
  }
}

}  // namespace

ConfigSource own_config(const Json& values, const std::string& checkpoint) {
  for (const std::string_view key : kOwnConfigs) {
    const Json* config = values.find(key);
    if (config && section_with_sizes(*config, 0)) return {concat(checkpoint, ": ", key), *config};
  }
  if (names_sizes(values)) return {checkpoint, values};
  return {checkpoint, {}};
}

Json with_reference_keys(const Json& values) {
  const Json* section = section_with_sizes(values, 0);
  if (section == nullptr) return values;
  const Json lettered = names_sizes(*section) ? *section : with_letters(*section);
  Json::Object plain;
  const auto has = [&](std::string_view key) {
    return lettered.find(key) || std::any_of(plain.begin(), plain.end(),
                                             [&](const Json::Member& member) { return member.first == key; });
  };
  for (const auto& [key, value] : lettered.as_object()) {
    const std::string_view name = reference_name(key);
    if (name == key || has(name)) {
      plain.emplace_back(key, value);
    } else {
      plain.emplace_back(name, value);
    }
  }
  return plain;
}

Json agreed_config(const std::vector<ConfigSource>& sources, std::vector<std::string>* warnings) {
  Json agreed = Json::Object{};
  for (const ConfigSource& source : sources) {
    const Json plain = with_reference_keys(source.values);
    if (!plain.is_object()) continue;
    for (const auto& [key, value] : plain.as_object()) {
      const bool size = holds(kSizes, key);
      const Json* said = agreed.find(key);
      if (said == nullptr && (&source == &sources.front() || !size || value.is_integer())) {
        agreed.set(key, value);
      } else if (said && size && contradict(*said, value)) {
        settle(sources.front(), source, {key, *said, value}, warnings);
        agreed.set(key, value);
      }
    }
  }
  return agreed;
}

void refuse_other_functions(const ConfigSource& source) {
  refuse_by_keys(source, source.values);
  refuse_by_keys(source, with_reference_keys(source.values));
}

void refuse_other_functions(const Json& values, const std::string& checkpoint) {
  for (const std::string_view key : kOwnConfigs) {
    const Json* config = values.find(key);
    if (config) refuse_other_functions({concat(checkpoint, ": ", key), *config});
  }
}

}  // namespace bdh
