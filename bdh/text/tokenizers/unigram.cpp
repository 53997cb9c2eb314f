// Unigram: the cut into pieces whose scores have the largest sum (Viterbi).
#include <algorithm>
#include <limits>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/text/tokenizers/byte_trie.h"
#include "bdh/text/tokenizers/model.h"
#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

constexpr double kUnknownPenalty = 10;
constexpr size_t kMaxWordBytes = size_t{1} << 30;

class Unigram : public Model {
 public:
  Unigram(const Fields& fields, Vocabulary pieces, std::vector<double> scores);
  void tokenize(std::string_view word, std::vector<int32_t>& tokens) const override;

 private:
  /// The best way to the end of the first bytes of a word: its score, and its last piece.
  struct Best {
    double score = 0;
    uint32_t begin = kUnreached;
    int32_t token = 0;
  };
  static constexpr uint32_t kUnreached = std::numeric_limits<uint32_t>::max();

  static void offer(Best& best, double score, size_t begin, int32_t token) {
    if (best.begin == kUnreached || score > best.score) best = {score, static_cast<uint32_t>(begin), token};
  }
  void extend(std::string_view word, size_t begin, std::vector<Best>& best) const;
  void add_unknown(std::string_view text, std::vector<int32_t>& tokens) const;

  std::string where_;
  std::vector<double> scores_;
  ByteTrie trie_;
  int32_t unknown_ = Vocabulary::kNone;
  double unknown_score_;
  std::vector<int32_t> bytes_;  // empty: without byte fallback
};

Unigram::Unigram(const Fields& fields, Vocabulary pieces, std::vector<double> scores)
    : Model(std::move(pieces)), where_(fields.where()), scores_(std::move(scores)) {
  if (fields.find("unk_id")) {
    const auto last = static_cast<int64_t>(scores_.size()) - 1;
    unknown_ = static_cast<int32_t>(fields.integer("unk_id", 0, last));
  }
  const double least = scores_.empty() ? 0 : *std::min_element(scores_.begin(), scores_.end());
  unknown_score_ = least - kUnknownPenalty;
  if (fields.boolean("byte_fallback", false)) bytes_ = byte_tokens(vocabulary());
  std::vector<std::pair<std::string_view, int32_t>> texts;
  for (const auto& [text, token] : vocabulary().entries())
    if (!text.empty()) texts.emplace_back(text, vocabulary().find(text));
  trie_ = ByteTrie(std::move(texts));
}

/// Offers every piece that begins at `begin`, and the unknown-token when none is a single character.
void Unigram::extend(std::string_view word, size_t begin, std::vector<Best>& best) const {
  const double score = best[begin].score;
  const size_t character = character_bytes(word[begin]);
  bool single = false;
  ByteTrie::Node node = ByteTrie::kRoot;
  for (size_t i = begin; i < word.size(); ++i) {
    node = trie_.child(node, word[i]);
    if (node == ByteTrie::kRoot) break;
    const int32_t token = trie_.value(node);
    if (token == ByteTrie::kNone) continue;
    offer(best[i + 1], scores_[static_cast<size_t>(token)] + score, begin, token);
    single |= i + 1 - begin == character;
  }
  if (single) return;
  if (unknown_ == Vocabulary::kNone)
    fail(ErrorKind::bad_file, where_,
         ": the vocabulary has no piece for a character of the text, and no unk_id");
  offer(best[begin + character], unknown_score_ + score, begin, unknown_);
}

/// A run of unknown characters: one token, or one for each byte.
void Unigram::add_unknown(std::string_view text, std::vector<int32_t>& tokens) const {
  const int32_t found = vocabulary().find(text);
  const auto token_of = [&](char byte) { return bytes_[static_cast<unsigned char>(byte)]; };
  const bool in_bytes =
      found == Vocabulary::kNone && !bytes_.empty() &&
      std::all_of(text.begin(), text.end(), [&](char byte) { return token_of(byte) != Vocabulary::kNone; });
  if (in_bytes) {
    std::transform(text.begin(), text.end(), std::back_inserter(tokens), token_of);
  } else {
    tokens.push_back(found == Vocabulary::kNone ? unknown_ : found);
  }
}

void Unigram::tokenize(std::string_view word, std::vector<int32_t>& tokens) const {
  if (word.size() > kMaxWordBytes)
    fail(ErrorKind::unsupported, "a word of ", word.size(), " bytes is too long for a Unigram tokenizer");
  std::vector<Best> best(word.size() + 1);
  for (size_t at = 0; at < word.size(); at += character_bytes(word[at])) extend(word, at, best);
  std::vector<std::pair<size_t, size_t>> pieces;  // from the last to the first; unknown neighbours joined
  const auto unknown = [&](size_t end) { return best[end].token == unknown_; };
  for (size_t end = word.size(); end > 0; end = best[end].begin) {
    const bool joins = !pieces.empty() && unknown(end) && unknown(pieces.back().second);
    if (joins) {
      pieces.back().first = best[end].begin;
    } else {
      pieces.emplace_back(best[end].begin, end);
    }
  }
  for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
    if (unknown(piece->second)) {
      add_unknown(word.substr(piece->first, piece->second - piece->first), tokens);
    } else {
      tokens.push_back(best[piece->second].token);
    }
  }
}

}  // namespace

std::unique_ptr<Model> read_unigram(const Fields& fields) {
  std::vector<Vocabulary::Entry> entries;
  std::vector<double> scores;
  for (const Json& piece : fields.array("vocab")) {
    const std::string where = fields.where("vocab") + "[" + std::to_string(entries.size()) + "]";
    if (!piece.is_array() || piece.as_array().size() != 2 || !piece.as_array()[0].is_string() ||
        !piece.as_array()[1].is_number())
      fail(ErrorKind::bad_file, where, ": expected [text, score]");
    entries.push_back({piece.as_array()[0].as_string(), static_cast<int32_t>(entries.size())});
    scores.push_back(piece.as_array()[1].as_number());
  }
  return std::make_unique<Unigram>(fields, Vocabulary(entries), std::move(scores));
}

}  // namespace bdh::tokenizers
