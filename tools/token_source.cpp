// A text read as tokens, so many at a time.
#include "tools/token_source.h"

#include <algorithm>
#include <string>

#include "bdh/base/error.h"

namespace bdh::tools {
namespace {

constexpr size_t kMaxTextBytes = 2'000'000'000;

}  // namespace

TokenSource::TokenSource(TextSource& text, const Tokenizer& tokenizer)
    : text_(text), tokenizer_(tokenizer), bytes_(dynamic_cast<const ByteTokenizer*>(&tokenizer) != nullptr) {
  constexpr size_t kPiece = 1 << 20;
  if (bytes_) return;
  std::string whole;
  for (std::string piece = text.read(kPiece); !piece.empty(); piece = text.read(kPiece)) {
    whole += piece;
    if (whole.size() > kMaxTextBytes)
      fail(ErrorKind::invalid_argument, "the text is longer than ", kMaxTextBytes, " bytes; --limit it");
  }
  tokens_ = tokenizer.encode(whole);
  if (!tokens_.empty())
    bytes_per_token_ = static_cast<double>(whole.size()) / static_cast<double>(tokens_.size());
}

std::vector<int32_t> TokenSource::read(size_t count) {
  if (bytes_) return tokenizer_.encode(text_.read(count));
  const auto begin = tokens_.begin() + static_cast<ptrdiff_t>(at_);
  at_ += std::min(count, tokens_.size() - at_);
  return {begin, tokens_.begin() + static_cast<ptrdiff_t>(at_)};
}

std::optional<int64_t> TokenSource::size() const {
  return bytes_ ? text_.size() : static_cast<int64_t>(tokens_.size());
}

}  // namespace bdh::tools
