// What a model directory needs besides weights and tokenizer for Hugging Face transformers to load it.
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
/// architectures, auto_map, the weights' dtype under its new and its old name), tokenizer_class where there
/// is a tokenizer whose files do not name theirs, special_token_ids, then `config.extra` without keys of
/// those names. Throws Error(unsupported) for a dtype that no weights have.
Json huggingface_config(const Config& config, DType dtype, const TokenizerFiles& tokenizer);

/// bos_token_id, eos_token_id and pad_token_id, those that the files give: for generation_config.json too,
/// where transformers' generate looks for them. An object, perhaps empty.
Json special_token_ids(const TokenizerFiles& tokenizer);

}  // namespace bdh
