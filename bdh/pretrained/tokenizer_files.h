// The tokenizer of a model: which files have it, wherever they lie, and the Tokenizer made of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/text/tokenizer.h"

namespace bdh {

inline constexpr const char* kTokenizerJsonKind = "tokenizer.json";
inline constexpr const char* kByt5Kind = "ByT5";
inline constexpr const char* kBytesKind = "bytes";

/// What a model says of its tokenizer.
struct TokenizerSource {
  TokenizerFiles files;  // under the names that a model directory gives them; kept when it is saved
  std::string kind;      // one of those above; empty: nothing that bdh can read
  std::string unread;    // what says that there is another tokenizer, in words; empty: nothing does
};

/// Looks for tokenizer.json; in tokenizer/ beside the weights; for one file of its kind under a name such as
/// bpe-8k.json; for a ByT5 tokenizer_config.json; for characters in a checkpoint (stoi, itos, chars). Bytes
/// are tokens where the model has 256 of them and neither files, nor `config` (keys of config.json), nor
/// `values` (what stands beside a checkpoint's state_dict) say otherwise. Throws Error(io), Error(bad_file),
/// and Error(invalid_argument) naming the candidates where there are several.
TokenizerSource find_tokenizer(const std::filesystem::path& directory, int64_t model_vocab_size,
                               const Json::Object& config = {}, const Json& values = {});

/// The same of files that are in memory; `name` stands for their directory in errors.
TokenizerSource tokenizer_source_of(TokenizerFiles files, const std::string& name, int64_t model_vocab_size,
                                    const Json::Object& config = {}, const Json& values = {});

/// The tokenizer of that source; nullptr where it has none, with a warning that says why where the model
/// could have one, and in a build without BDH_TOKENIZERS. Warns when it knows tokens that the model does not
/// have. `directory` names the files in errors. Throws what make_tokenizer throws.
std::shared_ptr<const Tokenizer> tokenizer_from(const TokenizerSource& source, int64_t model_vocab_size,
                                                const std::filesystem::path& directory,
                                                std::vector<std::string>* warnings = nullptr);

}  // namespace bdh
