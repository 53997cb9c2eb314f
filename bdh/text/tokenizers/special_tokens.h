// tokenizer_config.json, special_tokens_map.json and chat_template.jinja: which tokens begin, end, pad, stand
// for the unknown, and the chat template.
#pragma once

#include <optional>
#include <string>

#include "bdh/text/tokenizer.h"

namespace bdh::tokenizers {

/// What the files say, as texts.
struct TokenizerSettings {
  std::optional<std::string> bos, eos, pad, unk;
  std::optional<std::string> chat_template;
};

/// Any of them may be missing; tokenizer_config.json goes before special_tokens_map.json, a
/// chat_template.jinja before both. `source` names the directory in errors. Throws Error(bad_file).
TokenizerSettings read_settings(const TokenizerFiles& files, const std::string& source);

}  // namespace bdh::tokenizers
