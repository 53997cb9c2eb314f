// Tokens that tokenizer_config.json, special_tokens_map.json and added_tokens.json add to a tokenizer.json.
#pragma once

#include <string>

#include "bdh/base/json.h"
#include "bdh/text/tokenizer.h"

namespace bdh::tokenizers {

/// Entries as those of tokenizer.json's added_tokens, in the order in which transformers' AutoTokenizer adds
/// them; an id stands in them where a file gives one. `tokenizer`: tokenizer.json. Throws Error(bad_file)
/// naming the file, in the directory that `source` names.
Json::Array tokens_to_add(const TokenizerFiles& files, const Json& tokenizer, const std::string& source);

}  // namespace bdh::tokenizers
