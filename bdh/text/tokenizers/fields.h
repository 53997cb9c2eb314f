// Members of a JSON object with their types checked, and where they stand, for errors.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"

namespace bdh::tokenizers {

inline constexpr size_t kMaxShortBytes = 4096;

/// Every function throws Error(bad_file) naming file and key. A member that is null counts as missing.
class Fields {
 public:
  /// `where` reads like "model/tokenizer.json: decoder".
  Fields(const Json& json, std::string where);

  const std::string& where() const { return where_; }
  std::string where(std::string_view key) const { return where_ + "." + std::string(key); }
  const Json* find(std::string_view key) const;

  const std::string& string(std::string_view key) const;
  std::string string(std::string_view key, std::string_view fallback) const;
  std::optional<std::string> optional_string(std::string_view key) const;
  /// A string that may come up at every place of a text, and so has at most kMaxShortBytes.
  std::string short_string(std::string_view key) const;
  std::string short_string(std::string_view key, std::string_view fallback) const;
  /// A string that is one character.
  char32_t character(std::string_view key) const;
  bool boolean(std::string_view key) const;
  bool boolean(std::string_view key, bool fallback) const;
  /// A whole number in [low, high].
  int64_t integer(std::string_view key, int64_t low, int64_t high) const;
  int64_t integer(std::string_view key, int64_t low, int64_t high, int64_t fallback) const;
  const Json::Array& array(std::string_view key) const;
  Fields object(std::string_view key) const;
  /// The elements of an array, all of them objects.
  std::vector<Fields> objects(std::string_view key) const;

 private:
  const Json& required(std::string_view key) const;

  const Json* json_;
  std::string where_;
};

/// One past the largest token.
inline constexpr int64_t kTokenLimit = int64_t{1} << 31;
/// A token's number. Throws Error(bad_file) naming `where` for anything outside [0, kTokenLimit).
int32_t token_id(const Json& json, const std::string& where);

}  // namespace bdh::tokenizers
