// Which tokens the files beside a tokenizer.json add, as AutoTokenizer finds out: those listed by number
// first, then those that have a role, then extra ones.
#include "bdh/text/tokenizers/token_files.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/fields.h"

namespace bdh::tokenizers {
namespace {

constexpr std::array<std::string_view, 7> kRoles{"bos_token", "eos_token", "unk_token", "sep_token",
                                                 "pad_token", "cls_token", "mask_token"};
constexpr std::array<std::string_view, 4> kFlags{"single_word", "lstrip", "rstrip", "normalized"};

std::string text_of(const Json& token) {
  if (token.is_string()) return token.as_string();
  const Json* content = token.find("content");
  return content && content->is_string() ? content->as_string() : "";
}

bool flag(const Json& token, std::string_view key, bool fallback) {
  const Json* value = token.find(key);
  return value && value->is_bool() ? value->as_bool() : fallback;
}

/// All flags said, so that equal tokens are equal.
Json plain(const Json& token, bool special) {
  special = flag(token, "special", special);
  Json entry;
  entry.set("content", text_of(token));
  for (const std::string_view key : kFlags) entry.set(key, flag(token, key, key == "normalized" && !special));
  entry.set("special", special);
  return entry;
}

class Additions {
 public:
  Additions(const TokenizerFiles& files, const Json& tokenizer, const std::string& source)
      : files_(files), source_(source), config_(file("tokenizer_config.json")) {
    if (const Json* present = tokenizer.find("added_tokens"); present && present->is_array()) {
      for (const Json& token : present->as_array()) {
        known_.insert(text_of(token));
        const Json* id = token.find("id");
        if (id && id->is_integer()) numbered_[id->as_integer()] = plain(token, false);
      }
    }
  }

  Json::Array find() {
    const bool listed = config_.find("added_tokens_decoder") != nullptr;
    read_roles(config_);
    own_extra_ = extra_;
    if (!listed) read_roles(file("special_tokens_map.json"));
    for (auto& [number, entry] : listed_tokens(listed)) add_listed(number, std::move(entry));
    for (const auto& [role, token] : roles_) add_role(token);
    for (const Json& token : extra_) add_role(token);
    return std::move(additions_);
  }

 private:
  Json file(const char* name) const {
    const auto found = files_.find(name);
    if (found == files_.end()) return Json::Object{};
    Json json = Json::parse(found->second, source_ + "/" + name);
    if (!json.is_object()) fail(ErrorKind::bad_file, source_, "/", name, ": must hold a JSON object");
    return json;
  }

  /// special_tokens_map.json's roles go before tokenizer_config.json's, its extra tokens behind.
  void read_roles(const Json& json) {
    Json::Array extra;
    for (const auto& [key, value] : json.as_object()) {
      const bool role = key.ends_with("_token") && (value.is_string() || value.is_object());
      if (role) roles_[order_of(key)] = value;
      const bool more = key == "additional_special_tokens" || key == "extra_special_tokens";
      if (more && value.is_array()) extra = value.as_array();
      if (more && value.is_object()) {
        for (const auto& [name, token] : value.as_object()) roles_[order_of(name)] = token;
      }
    }
    if (extra_.empty()) extra_ = std::move(extra);
  }

  /// The known roles first, others in the order in which they come.
  std::pair<size_t, std::string> order_of(const std::string& key) {
    const auto known = std::find(kRoles.begin(), kRoles.end(), key);
    if (known != kRoles.end()) return {static_cast<size_t>(known - kRoles.begin()), key};
    const auto place = others_.emplace(key, kRoles.size() + others_.size()).first;
    return {place->second, key};
  }

  /// Tokens with their numbers, by number: those of tokenizer_config.json, or else those of added_tokens.json
  /// and tokenizer.json itself. What has a role is special.
  std::map<int64_t, Json> listed_tokens(bool listed) const {
    std::map<int64_t, Json> tokens;
    if (listed) {
      for (const auto& [key, token] : config_.find("added_tokens_decoder")->as_object())
        tokens[number(key)] = plain(token, false);
    } else {
      const Json added = file("added_tokens.json");
      for (const auto& [text, token] : added.as_object())
        tokens[token_id(token, source_ + "/added_tokens.json." + text)] =
            plain(Json::Object{{"content", text}}, is_special(text));
      for (const auto& [number, token] : numbered_) tokens[number] = token;
    }
    for (auto& [number, token] : tokens) {
      if (is_role(text_of(token))) token.set("special", true);
    }
    return tokens;
  }

  void add_listed(int64_t number, Json entry) {
    if (known_.insert(text_of(entry)).second) entry.set("id", number);
    additions_.push_back(std::move(entry));
  }

  int64_t number(const std::string& key) const {
    int64_t token = -1;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), token);
    if (parsed.ec == std::errc() && parsed.ptr == key.data() + key.size() && token >= 0 &&
        token < kTokenLimit)
      return token;
    fail(ErrorKind::bad_file, source_, "/tokenizer_config.json: added_tokens_decoder: ", printable(key),
         " is no token");
  }

  bool is_role(const std::string& text) const {
    return std::any_of(roles_.begin(), roles_.end(),
                       [&](const auto& role) { return text_of(role.second) == text; });
  }

  bool is_special(const std::string& text) const {
    return is_role(text) || std::any_of(extra_.begin(), extra_.end(),
                                        [&](const Json& token) { return text_of(token) == text; });
  }

  /// The same text with other flags is added again, and counts.
  void add_role(const Json& token) {
    const std::string text = text_of(token);
    if (text.empty() || known_.contains(text)) return;
    if (std::find(added_roles_.begin(), added_roles_.end(), token) != added_roles_.end()) return;
    added_roles_.push_back(token);
    Json entry = plain(token.is_string() ? Json(Json::Object{{"content", text}}) : token, true);
    entry.set("special", true);
    additions_.push_back(std::move(entry));
  }

  const TokenizerFiles& files_;
  const std::string& source_;
  Json config_;
  std::map<int64_t, Json> numbered_;  // of tokenizer.json
  std::set<std::string> known_;
  std::map<std::pair<size_t, std::string>, Json> roles_;
  std::map<std::string, size_t> others_;
  Json::Array own_extra_;  // of tokenizer_config.json
  Json::Array extra_, added_roles_;
  Json::Array additions_;
};

}  // namespace

Json::Array tokens_to_add(const TokenizerFiles& files, const Json& tokenizer, const std::string& source) {
  return Additions(files, tokenizer, source).find();
}

}  // namespace bdh::tokenizers
