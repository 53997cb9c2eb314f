// SentencePiece's precompiled map of characters: a double array over what to replace, and the replacements.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bdh::tokenizers {

class Charsmap {
 public:
  /// `base64` as it stands in tokenizer.json. Throws Error(bad_file) naming `where`.
  Charsmap(std::string_view base64, const std::string& where);

  /// Short grapheme clusters as a whole where the map has them, else character by character.
  std::string apply(std::string_view text) const;

 private:
  std::optional<std::string_view> replacement(std::string_view key) const;
  void append(std::string_view text, std::string& out) const;

  std::vector<uint32_t> units_;
  std::string replacements_;  // each ends with a zero
};

}  // namespace bdh::tokenizers
