// Which model a tokenizer.json has.
#include "bdh/text/tokenizers/model.h"

#include "bdh/base/error.h"
#include "bdh/base/printable.h"

namespace bdh::tokenizers {
namespace {

/// Files of old have no type: it shows in what else there is.
std::string type_of(const Fields& fields) {
  if (fields.find("type")) return fields.string("type");
  if (fields.find("merges")) return "BPE";
  if (fields.find("max_input_chars_per_word")) return "WordPiece";
  const Json* vocab = fields.find("vocab");
  return vocab && vocab->is_array() ? "Unigram" : "WordLevel";
}

}  // namespace

std::unique_ptr<Model> read_model(const Fields& fields) {
  const std::string type = type_of(fields);
  if (type == "BPE") return read_bpe(fields);
  if (type == "Unigram") return read_unigram(fields);
  if (type == "WordLevel") return read_word_level(fields);
  if (type == "WordPiece") return read_word_piece(fields);
  fail(ErrorKind::unsupported, fields.where(), ": bdh has no model ", printable(type),
       "; it knows BPE, Unigram, WordLevel and WordPiece");
}

std::vector<int32_t> byte_tokens(const Vocabulary& vocabulary) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  std::vector<int32_t> tokens;
  for (size_t byte = 0; byte < 256; ++byte)
    tokens.push_back(vocabulary.find(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">"));
  return tokens;
}

}  // namespace bdh::tokenizers
