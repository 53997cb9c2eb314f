// Characters as tokens, as nanoGPT's stoi and itos have them, in the form of a tokenizer.json.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bdh/base/json.h"

namespace bdh {

/// Token by token, from a map of texts to tokens (stoi), of tokens to texts (itos), or a list of texts;
/// nothing where it is no such thing, or tokens are missing.
std::optional<std::vector<std::string>> characters_of(const Json& vocabulary);

/// A tokenizer.json that cuts a text into characters and gives each its token; a character without one is an
/// error. Texts of several characters have tokens that no text gives.
std::string character_tokenizer_json(const std::vector<std::string>& characters);

}  // namespace bdh
