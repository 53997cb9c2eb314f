// What a run trains on: texts through a tokenizer as TokenData, and what depends on the tokenizer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "bdh/text/tokenizer.h"
#include "bdh/train/batch_order.h"
#include "bdh/train/token_data.h"

namespace bdh {

struct DataOptions {
  std::vector<std::filesystem::path> paths;  // files, or folders as find_text_files reads them
  std::string text_field = "text";           // of .jsonl
  std::filesystem::path cache;               // folder of token caches; empty: tokens are held in memory
  std::function<bool(uint64_t done, uint64_t total)> progress;  // bytes of text; false stops
};

/// The texts through the tokenizer. .jsonl files give a text for each line; every other file is one text.
/// Where bytes are the tokens a file may be as long as it likes; other tokenizers need each text whole. Texts
/// are joined by the tokenizer's end-of-text token, or a line break where it has none; empty ones count for
/// nothing. A cache in options.cache that was made of the same bytes by the same tokenizer, and is whole by
/// its hash, is mapped; else one is made, atomically. Bytes that are not UTF-8 are a warning, and U+FFFD,
/// unless bytes are the tokens. vocab: tokens at or past it are an error. Throws Error(not_found),
/// Error(bad_file) naming file and line, Error(io), Error(invalid_argument), Error(cancelled).
TokenData load_tokens(const DataOptions& options, const Tokenizer& tokenizer, int64_t vocab,
                      std::vector<std::string>* warnings = nullptr);

/// SHA-256 of all that the tokens of a text depend on: the tokenizer's files, or that bytes are the tokens.
std::string tokenizer_hash(const Tokenizer& tokenizer);

}  // namespace bdh
