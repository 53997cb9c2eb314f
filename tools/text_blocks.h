// A text as independent blocks of tokens, each of which predicts its own.
#pragma once

#include <cstdint>
#include <vector>

#include "tools/token_source.h"

namespace bdh::tools {

using Tokens = std::vector<int32_t>;

constexpr int64_t kMaxBlock = int64_t{1} << 20;

/// Blocks of block + 1 tokens, each starting with the last of the one before. As in the reference's eval, a
/// block is left out unless the text goes on after it.
class TextBlocks {
 public:
  /// `text` must outlive it.
  TextBlocks(TokenSource& text, int64_t block) : text_(text), block_(static_cast<size_t>(block)) {}

  /// The tokens these blocks predict, where the text's length is known; else 0.
  int64_t total() const;
  /// Up to `count` blocks; none at the end. Throws what TokenSource::read throws.
  std::vector<Tokens> next(size_t count);

 private:
  TokenSource& text_;
  size_t block_;
  Tokens pending_;
};

/// How many blocks are best read together in the parallel form.
size_t blocks_together(int64_t block, int64_t vocabulary);

}  // namespace bdh::tools
