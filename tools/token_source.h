// A text read as tokens, so many at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "bdh/text/tokenizer.h"
#include "tools/text_source.h"

namespace bdh::tools {

/// Where bytes are the tokens the text may be as long as it likes. Other tokenizers need it whole, as what a
/// token is may depend on all that follows.
class TokenSource {
 public:
  /// Both must outlive it. Throws what TextSource::read throws, and Error(invalid_argument) for a text that
  /// is too long to be taken whole.
  TokenSource(TextSource& text, const Tokenizer& tokenizer);

  /// The next `count` tokens; fewer only at the end.
  std::vector<int32_t> read(size_t count);
  /// Tokens in all, where that is known beforehand.
  std::optional<int64_t> size() const;
  double bytes_per_token() const { return bytes_per_token_; }

 private:
  TextSource& text_;
  const Tokenizer& tokenizer_;
  bool bytes_;
  std::vector<int32_t> tokens_;  // all of them, unless bytes are the tokens
  size_t at_ = 0;
  double bytes_per_token_ = 1;
};

}  // namespace bdh::tools
