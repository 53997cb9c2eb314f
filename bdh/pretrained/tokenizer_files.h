// The tokenizer of a model directory: its files read and made into a Tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "bdh/text/tokenizer.h"

namespace bdh {

/// The tokenizer files of a directory with tokenizer.json (file_names.h lists them), as they are; empty
/// without it. Throws Error(io), Error(bad_file) for a file that is too long to be one.
TokenizerFiles read_tokenizer_files(const std::filesystem::path& directory);

/// The tokenizer that the files make; without files, bytes for a model of 256 tokens and nullptr for others.
/// nullptr too, with a warning, in a build without BDH_TOKENIZERS. Warns when it knows tokens that the model
/// does not have. `directory` names the files in errors. Throws what make_tokenizer throws.
std::shared_ptr<const Tokenizer> tokenizer_from(const TokenizerFiles& files, int64_t model_vocab_size,
                                                const std::filesystem::path& directory,
                                                std::vector<std::string>* warnings = nullptr);

}  // namespace bdh
