// WordPiece: the longest piece that fits, again and again; a word of which something is left over is unknown.
#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/byte_trie.h"
#include "bdh/text/tokenizers/model.h"
#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

class WordPiece : public Model {
 public:
  explicit WordPiece(const Fields& fields);
  void tokenize(std::string_view word, std::vector<int32_t>& tokens) const override;

 private:
  bool cut(std::string_view word, std::vector<int32_t>& tokens) const;

  std::string where_, unknown_text_;
  size_t max_characters_;
  int32_t unknown_;
  ByteTrie first_;  // pieces that begin a word
  ByteTrie later_;  // those after them, without their prefix
};

WordPiece::WordPiece(const Fields& fields)
    : Model(read_vocabulary(*fields.find("vocab"), fields.where("vocab"))),
      where_(fields.where()),
      unknown_text_(fields.string("unk_token", "[UNK]")),
      max_characters_(static_cast<size_t>(fields.integer("max_input_chars_per_word", 0, INT64_MAX, 100))),
      unknown_(vocabulary().find(unknown_text_)) {
  const std::string prefix = fields.string("continuing_subword_prefix", "##");
  std::vector<std::pair<std::string_view, int32_t>> first, later;
  for (const auto& [text, token] : vocabulary().entries()) {
    if (!text.empty()) first.emplace_back(text, token);
    if (text.size() > prefix.size() && text.starts_with(prefix))
      later.emplace_back(text.substr(prefix.size()), token);
  }
  first_ = ByteTrie(std::move(first));
  later_ = ByteTrie(std::move(later));
}

bool WordPiece::cut(std::string_view word, std::vector<int32_t>& tokens) const {
  for (size_t at = 0; at < word.size();) {
    const ByteTrie& trie = at == 0 ? first_ : later_;
    ByteTrie::Node node = ByteTrie::kRoot;
    size_t longest = 0;
    int32_t piece = 0;
    for (size_t i = at; i < word.size(); ++i) {
      node = trie.child(node, word[i]);
      if (node == ByteTrie::kRoot) break;
      if (trie.value(node) == ByteTrie::kNone) continue;
      longest = i + 1 - at;
      piece = trie.value(node);
    }
    if (longest == 0) return false;
    tokens.push_back(piece);
    at += longest;
  }
  return true;
}

void WordPiece::tokenize(std::string_view word, std::vector<int32_t>& tokens) const {
  const size_t before = tokens.size();
  if (count_characters(word) <= max_characters_ && cut(word, tokens)) return;
  if (unknown_ == Vocabulary::kNone)
    fail(ErrorKind::bad_file, where_, ": the vocabulary has neither pieces for the word ", printable(word),
         " nor the unk_token ", printable(unknown_text_));
  tokens.resize(before);
  tokens.push_back(unknown_);
}

}  // namespace

std::unique_ptr<Model> read_word_piece(const Fields& fields) {
  fields.object("vocab");
  return std::make_unique<WordPiece>(fields);
}

}  // namespace bdh::tokenizers
