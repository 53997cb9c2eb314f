// What a model directory needs besides weights and tokenizer for Hugging Face transformers to load it. Knows
// contents and names; writes no file.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "bdh/base/dtype.h"
#include "bdh/base/json.h"
#include "bdh/model/config.h"
#include "bdh/text/tokenizer.h"

namespace bdh {

/// Our Python that transformers runs with trust_remote_code: file name and contents.
std::vector<std::pair<std::string, std::string>> huggingface_files();

/// The config.json that transformers reads: the six fields, what they are called there (model_type,
/// architectures, auto_map, the weights' dtype under its new and its old name), bos_token_id, eos_token_id
/// and pad_token_id where the tokenizer has them, then `config.extra` without keys of those names.
/// `tokenizer` may be null.
Json huggingface_config(const Config& config, DType dtype, const Tokenizer* tokenizer);

/// bos_token_id, eos_token_id and pad_token_id, those that the tokenizer has: for generation_config.json too,
/// where transformers' generate looks for them. An object, perhaps empty.
Json special_token_ids(const Tokenizer* tokenizer);

}  // namespace bdh
