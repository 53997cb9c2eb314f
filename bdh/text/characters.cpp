// Characters as tokens, in the form of a tokenizer.json.
#include "bdh/text/characters.h"

#include <charconv>
#include <set>

namespace bdh {
namespace {

using Texts = std::vector<std::optional<std::string>>;

void place(Texts& texts, int64_t token, const std::string& text) {
  if (token >= 0 && token < static_cast<int64_t>(texts.size())) texts[static_cast<size_t>(token)] = text;
}

void place_member(Texts& texts, const Json::Member& member) {
  const auto& [key, value] = member;
  if (value.is_integer()) return place(texts, value.as_integer(), key);
  int64_t token = -1;
  const auto parsed = std::from_chars(key.data(), key.data() + key.size(), token);
  if (value.is_string() && parsed.ec == std::errc() && parsed.ptr == key.data() + key.size())
    place(texts, token, value.as_string());
}

Texts texts_of(const Json& vocabulary) {
  Texts texts;
  if (vocabulary.is_array()) {
    for (const Json& text : vocabulary.as_array())
      texts.push_back(text.is_string() ? std::optional(text.as_string()) : std::nullopt);
  } else if (vocabulary.is_object()) {
    texts.resize(vocabulary.as_object().size());
    for (const Json::Member& member : vocabulary.as_object()) place_member(texts, member);
  }
  return texts;
}

}  // namespace

std::optional<std::vector<std::string>> characters_of(const Json& vocabulary) {
  std::vector<std::string> characters;
  std::set<std::string> known;
  for (const std::optional<std::string>& text : texts_of(vocabulary)) {
    if (!text || text->empty() || !known.insert(*text).second) return {};
    characters.push_back(*text);
  }
  if (characters.empty()) return {};
  return characters;
}

std::string character_tokenizer_json(const std::vector<std::string>& characters) {
  Json::Object vocabulary;
  for (const std::string& text : characters)
    vocabulary.emplace_back(text, static_cast<int64_t>(vocabulary.size()));
  const Json pre_tokenizer = Json::Object{{"type", "Split"},
                                          {"pattern", Json::Object{{"Regex", "[\\s\\S]"}}},
                                          {"behavior", "Isolated"},
                                          {"invert", false}};
  const Json model =
      Json::Object{{"type", "WordLevel"}, {"vocab", std::move(vocabulary)}, {"unk_token", "<unk>"}};
  const Json tokenizer = Json::Object{{"version", "1.0"},
                                      {"truncation", nullptr},
                                      {"padding", nullptr},
                                      {"added_tokens", Json::Array{}},
                                      {"normalizer", nullptr},
                                      {"pre_tokenizer", pre_tokenizer},
                                      {"post_processor", nullptr},
                                      {"decoder", Json::Object{{"type", "Fuse"}}},
                                      {"model", model}};
  return tokenizer.dump(2) + "\n";
}

}  // namespace bdh
