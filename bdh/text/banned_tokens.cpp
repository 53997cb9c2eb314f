// Which tokens must not come next, by the rules of Hugging Face's logits processors.
#include "bdh/text/banned_tokens.h"

#include <algorithm>

namespace bdh {
namespace {

std::vector<int32_t> below(int64_t vocab, const auto& tokens) {
  std::vector<int32_t> known;
  for (const int64_t token : tokens)
    if (token >= 0 && token < vocab) known.push_back(static_cast<int32_t>(token));
  return known;
}

}  // namespace

BannedTokens::BannedTokens(const GenerationConfig& config, const std::set<int64_t>& ends, int64_t vocab)
    : vocab_(vocab),
      min_length_(config.min_length),
      min_new_tokens_(config.min_new_tokens),
      always_(below(vocab, config.suppress_tokens)),
      at_beginning_(below(vocab, config.begin_suppress_tokens)),
      ends_(below(vocab, ends)) {
  for (const std::vector<int64_t>& word : config.bad_words_ids) {
    const bool end = word.size() == 1 && ends.contains(word[0]);
    const Tokens tokens = below(vocab, word);
    if (end || tokens.size() < word.size()) continue;
    if (tokens.size() == 1) {
      always_.push_back(tokens[0]);
    } else {
      words_[tokens[tokens.size() - 2]].push_back(tokens);
    }
  }
  if (config.no_repeat_ngram_size > 0) ngrams_.emplace(config.no_repeat_ngram_size);
}

std::span<const int32_t> BannedTokens::after(std::span<const int32_t> text, int64_t prompt, bool begins) {
  now_ = always_;
  const int64_t length = std::ssize(text);
  if (begins) add(at_beginning_);
  if (length < min_length_ || length - prompt < min_new_tokens_) add(ends_);
  add_words(text);
  if (ngrams_) {
    ngrams_->extend(text);
    ngrams_->add_completions(now_);
    std::erase_if(now_, [&](int32_t token) { return token >= vocab_; });
  }
  return now_;
}

/// The last tokens of words that the text ends with up to that.
void BannedTokens::add_words(std::span<const int32_t> text) {
  if (words_.empty() || text.empty()) return;
  const auto found = words_.find(text.back());
  if (found == words_.end()) return;
  for (const Tokens& word : found->second) {
    const std::span<const int32_t> begun(word.data(), word.size() - 1);
    if (begun.size() > text.size()) continue;
    if (std::equal(begun.begin(), begun.end(), text.end() - std::ssize(begun))) now_.push_back(word.back());
  }
}

bool BannedTokens::contains(int32_t token) const {
  return std::find(now_.begin(), now_.end(), token) != now_.end();
}

}  // namespace bdh
