// Pre-tokenizers: how a normalized text is cut into the words that the model sees.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/text/tokenizers/fields.h"

namespace bdh::tokenizers {

/// A word's bytes in its text, and whether it begins where the original text does.
struct Word {
  size_t begin, end;
  bool first;
};

/// A text and the words in it, from left to right, none of them empty.
struct Words {
  std::string text;
  std::vector<Word> words;

  std::string_view operator[](size_t i) const {
    return std::string_view(text).substr(words[i].begin, words[i].end - words[i].begin);
  }
};

/// Immutable: any number of threads may share it.
class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(Words& words) const = 0;
};

struct PreTokenizers {
  std::vector<std::unique_ptr<const PreTokenizer>> steps;
  /// The model sees each byte of a word as its character in the byte-level alphabet. That is the last step,
  /// left to the caller so that words met before need not be rewritten.
  bool byte_level = false;
};

/// The "pre_tokenizer" of tokenizer.json. Throws Error(bad_file), Error(unsupported).
PreTokenizers read_pre_tokenizer(const Fields& fields);

}  // namespace bdh::tokenizers
