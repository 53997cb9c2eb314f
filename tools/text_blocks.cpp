// A text as independent blocks of tokens.
#include "tools/text_blocks.h"

#include <algorithm>

namespace bdh::tools {

int64_t TextBlocks::total() const {
  const auto block = static_cast<int64_t>(block_);
  const int64_t starts = text_.size().value_or(0) - 1 - block;
  return starts > 0 ? (starts + block - 1) / block * block : 0;
}

std::vector<Tokens> TextBlocks::next(size_t count) {
  std::vector<Tokens> blocks;
  while (blocks.size() < count) {
    const size_t wanted = block_ + 2;
    if (pending_.size() < wanted) {
      const Tokens more = text_.read(wanted - pending_.size());
      pending_.insert(pending_.end(), more.begin(), more.end());
    }
    if (pending_.size() < wanted) break;
    blocks.emplace_back(pending_.begin(), pending_.end() - 1);
    pending_.erase(pending_.begin(), pending_.end() - 2);
  }
  return blocks;
}

size_t blocks_together(int64_t block, int64_t vocabulary) {
  constexpr int64_t kTokens = 2048;
  constexpr int64_t kLogits = int64_t{1} << 26;  // at most so many numbers at once
  return static_cast<size_t>(std::max<int64_t>(1, std::min(kTokens, kLogits / vocabulary) / block));
}

}  // namespace bdh::tools
