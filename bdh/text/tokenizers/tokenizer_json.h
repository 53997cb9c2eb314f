// Tokenizers as the `tokenizers` package saves them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bdh/text/tokenizer.h"

namespace bdh {

/// The tokenizer that the files describe; tokenizer.json must be among them. `source` names the directory in
/// errors. Throws Error(bad_file) naming file and key, and Error(unsupported) naming a component that this
/// build does not have.
std::shared_ptr<const Tokenizer> make_tokenizer(TokenizerFiles files, const std::string& source,
                                                std::vector<std::string>* warnings = nullptr);

}  // namespace bdh
