// Which tokens must not come next: what generation_config.json suppresses, bans and forbids to repeat.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <unordered_map>
#include <vector>

#include "bdh/text/generation_config.h"
#include "bdh/text/ngrams.h"

namespace bdh {

/// For one text. A step costs as much as there are tokens to ban, however long the text is.
class BannedTokens {
 public:
  /// ends: the tokens that end a text; vocab: tokens below this may be drawn, others are not told.
  BannedTokens(const GenerationConfig& config, const std::set<int64_t>& ends, int64_t vocab);

  /// The tokens banned after `text`, which has grown since the last call and begins with `prompt` tokens that
  /// were given; some may be there twice. Valid until the next call. begins: text was given, none drawn.
  std::span<const int32_t> after(std::span<const int32_t> text, int64_t prompt, bool begins);
  /// Whether the last call said so.
  bool contains(int32_t token) const;

 private:
  using Tokens = std::vector<int32_t>;

  void add(const Tokens& tokens) { now_.insert(now_.end(), tokens.begin(), tokens.end()); }
  void add_words(std::span<const int32_t> text);

  int64_t vocab_, min_length_, min_new_tokens_;
  Tokens always_, at_beginning_, ends_;
  std::unordered_map<int32_t, std::vector<Tokens>> words_;  // by the last token but one
  std::optional<Ngrams> ngrams_;
  Tokens now_;
};

}  // namespace bdh
