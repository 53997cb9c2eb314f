// Special tokens by name, each as a text or as {"content": text}.
#include "bdh/text/tokenizers/special_tokens.h"

#include "bdh/base/error.h"
#include "bdh/text/tokenizers/fields.h"

namespace bdh::tokenizers {
namespace {

std::optional<std::string> text_of(const Fields& fields, std::string_view key) {
  const Json* found = fields.find(key);
  if (!found) return {};
  return found->is_object() ? fields.object(key).string("content") : fields.string(key);
}

/// A template, or the one called "default" of several: {"name": ..., "template": ...}.
std::optional<std::string> template_of(const Fields& fields) {
  constexpr std::string_view kKey = "chat_template";
  const Json* found = fields.find(kKey);
  if (!found) return {};
  if (!found->is_array()) return fields.string(kKey);
  for (const Fields& named : fields.objects(kKey))
    if (named.string("name") == "default") return named.string("template");
  return {};
}

void read_file(const TokenizerFiles& files, const std::string& source, const char* name,
               TokenizerSettings& settings) {
  const auto file = files.find(name);
  if (file == files.end()) return;
  const std::string where = source + "/" + name;
  const Json json = Json::parse(file->second, where);
  const Fields fields(json, where);
  const auto read = [&](std::optional<std::string>& text, std::string_view key) {
    if (!text) text = text_of(fields, key);
  };
  read(settings.bos, "bos_token");
  read(settings.eos, "eos_token");
  read(settings.pad, "pad_token");
  read(settings.unk, "unk_token");
  if (!settings.chat_template) settings.chat_template = template_of(fields);
}

}  // namespace

TokenizerSettings read_settings(const TokenizerFiles& files, const std::string& source) {
  TokenizerSettings settings;
  const auto own_file = files.find("chat_template.jinja");
  if (own_file != files.end()) settings.chat_template = own_file->second;
  read_file(files, source, "tokenizer_config.json", settings);
  read_file(files, source, "special_tokens_map.json", settings);
  return settings;
}

}  // namespace bdh::tokenizers
