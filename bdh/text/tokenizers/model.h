// What cuts a word into tokens: the four models of tokenizer.json.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "bdh/text/tokenizers/fields.h"
#include "bdh/text/tokenizers/vocabulary.h"

namespace bdh::tokenizers {

/// Immutable: any number of threads may share it.
class Model {
 public:
  virtual ~Model() = default;
  /// Appends the tokens of a word, which is valid UTF-8 and not empty. Throws Error(bad_file) when the word
  /// needs an unknown-token that the vocabulary does not have.
  virtual void tokenize(std::string_view word, std::vector<int32_t>& tokens) const = 0;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 protected:
  explicit Model(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}

 private:
  Vocabulary vocabulary_;
};

/// The "model" of tokenizer.json. Throws Error(bad_file), Error(unsupported).
std::unique_ptr<Model> read_model(const Fields& fields);

std::unique_ptr<Model> read_bpe(const Fields& fields);
std::unique_ptr<Model> read_unigram(const Fields& fields);
std::unique_ptr<Model> read_word_level(const Fields& fields);
std::unique_ptr<Model> read_word_piece(const Fields& fields);

/// The tokens <0x00> to <0xFF>, kNone for those that the vocabulary does not have.
std::vector<int32_t> byte_tokens(const Vocabulary& vocabulary);

}  // namespace bdh::tokenizers
