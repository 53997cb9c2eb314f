// config.json as Hugging Face transformers reads it.
#include "bdh/pretrained/huggingface.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "bdh/base/error.h"

namespace bdh {
namespace {

constexpr std::string_view kSpecialTokens[] = {"bos_token", "eos_token", "pad_token"};

/// The file parsed; null when there is none or it is no JSON: reading a tokenizer strictly is its own
/// reader's task.
Json parsed(const TokenizerFiles& files, const char* name) {
  const auto file = files.find(name);
  if (file == files.end()) return {};
  try {
    return Json::parse(file->second, name);
  } catch (const Error&) {
    return {};
  }
}

/// A token's text, given as a string or as an object with `content`.
std::optional<std::string> token_text(const Json& config, std::string_view key) {
  const Json* token = config.find(key);
  if (token && token->is_object()) token = token->find("content");
  if (!token || !token->is_string()) return {};
  return token->as_string();
}

/// The id that tokenizer.json gives the text, as an added token or as one of the model's own.
std::optional<int64_t> token_id(const Json& tokenizer, const std::string& text) {
  const Json* added = tokenizer.find("added_tokens");
  if (added && added->is_array()) {
    for (const Json& token : added->as_array()) {
      const Json *content = token.find("content"), *id = token.find("id");
      if (content && id && *content == Json(text) && id->is_integer()) return id->as_integer();
    }
  }
  const Json* model = tokenizer.find("model");
  const Json* vocabulary = model ? model->find("vocab") : nullptr;
  const Json* id = vocabulary ? vocabulary->find(text) : nullptr;
  if (!id || !id->is_integer()) return {};
  return id->as_integer();
}

}  // namespace

Json special_token_ids(const TokenizerFiles& tokenizer) {
  Json ids = Json::Object{};
  const Json vocabulary = parsed(tokenizer, "tokenizer.json");
  const Json config = parsed(tokenizer, "tokenizer_config.json");
  const Json map = parsed(tokenizer, "special_tokens_map.json");
  for (const std::string_view key : kSpecialTokens) {
    std::optional<std::string> text = token_text(config, key);
    if (!text) text = token_text(map, key);
    const std::optional<int64_t> id = text ? token_id(vocabulary, *text) : std::nullopt;
    if (id) ids.set(concat(key, "_id"), *id);
  }
  return ids;
}

Json huggingface_config(const Config& config, DType dtype, const TokenizerFiles& tokenizer) {
  if (!is_weight_dtype(dtype))
    fail(ErrorKind::unsupported, "weights of type ", name_of(dtype), " are none that transformers loads");
  Config fields = config;
  fields.extra.clear();
  Json json = fields.to_json();
  json.set("model_type", "bdh");
  json.set("architectures", Json::Array{"BDHForCausalLM"});
  json.set("auto_map", Json::Object{{"AutoConfig", "configuration_bdh.BDHConfig"},
                                    {"AutoModel", "modeling_bdh.BDHModel"},
                                    {"AutoModelForCausalLM", "modeling_bdh.BDHForCausalLM"}});
  for (const char* key : {"dtype", "torch_dtype"}) json.set(key, torch_name_of(dtype));
  if (!tokenizer.empty() && !parsed(tokenizer, "tokenizer_config.json").find("tokenizer_class"))
    json.set("tokenizer_class", "PreTrainedTokenizerFast");
  const Json ids = special_token_ids(tokenizer);
  for (const auto& [key, id] : ids.as_object()) json.set(key, id);
  for (const auto& [key, value] : config.extra)
    if (!json.find(key)) json.set(key, value);
  return json;
}

}  // namespace bdh
