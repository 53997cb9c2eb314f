// TokenData: the tokens that a run reads.
#include "bdh/train/token_data.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <span>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/sha256.h"

namespace bdh {
namespace {

uint32_t token_at(const std::byte* data, int width) {
  uint32_t token = 0;
  for (int i = 0; i < width; ++i) token |= static_cast<uint32_t>(data[i]) << (8 * i);
  return token;
}

void require_block(int64_t tokens, int64_t block, const char* what) {
  if (tokens > block) return;
  fail(ErrorKind::invalid_argument, what, " has ", tokens, " tokens, too few for a block of ", block,
       " and the token after it; give more text or a smaller --block");
}

}  // namespace

struct TokenData::Hash {
  std::once_flag once;
  std::string text;
};

TokenData::TokenData(std::shared_ptr<const void> owner, const std::byte* data, int64_t size, int width,
                     uint64_t text_bytes)
    : owner_(std::move(owner)),
      data_(data),
      size_(size),
      width_(width),
      text_bytes_(text_bytes),
      hash_(std::make_shared<Hash>()) {}

TokenData TokenData::of(std::vector<int32_t> tokens) {
  const auto held = std::make_shared<const std::vector<int32_t>>(std::move(tokens));
  const std::span<const std::byte> bytes = std::as_bytes(std::span(*held));
  return {held, bytes.data(), static_cast<int64_t>(held->size()), sizeof(int32_t), 0};
}

void TokenData::copy(int64_t begin, int64_t count, int32_t* to) const {
  if (begin < 0 || count < 0 || count > size_ || begin > size_ - count)
    fail(ErrorKind::invalid_argument, "tokens ", begin, " and ", count, " more are not among ", size_);
  const std::byte* from = data_ + begin * width_;
  for (int64_t i = 0; i < count; ++i, from += width_) to[i] = static_cast<int32_t>(token_at(from, width_));
}

TokenData TokenData::part(int64_t begin, int64_t end) const {
  if (begin < 0 || end < begin || end > size_)
    fail(ErrorKind::invalid_argument, "tokens ", begin, " to ", end, " are not among ", size_);
  const double share = size_ > 0 ? static_cast<double>(end - begin) / static_cast<double>(size_) : 0;
  const auto bytes = static_cast<uint64_t>(std::llround(share * static_cast<double>(text_bytes_)));
  return {owner_, data_ + begin * width_, end - begin, width_, bytes};
}

const std::string& TokenData::hash() const {
  static const std::string kNothing = Sha256().finish();
  if (!hash_) return kNothing;
  std::call_once(hash_->once, [&] {
    constexpr int64_t kPiece = 1 << 16;
    Sha256 sum;
    std::vector<int32_t> tokens;
    for (int64_t at = 0; at < size_; at += kPiece) {
      const TokenData piece = part(at, std::min(size_, at + kPiece));
      tokens.resize(static_cast<size_t>(piece.size()));
      piece.copy(0, piece.size(), tokens.data());
      sum.add(std::as_bytes(std::span(tokens)));  // every processor that bdh runs on is little-endian
    }
    hash_->text = sum.finish();
  });
  return hash_->text;
}

DataSplit split_tokens(const TokenData& data, double share, int64_t block) {
  if (!(share > 0 && share < 1))
    fail(ErrorKind::invalid_argument, "the share of the text for validation must be between 0 and 1, not ",
         share);
  const auto kept = static_cast<int64_t>(std::llround(static_cast<double>(data.size()) * (1 - share)));
  DataSplit split{data.part(0, kept), data.part(kept, data.size())};
  require_block(split.train.size(), block, "the text to train on");
  require_block(split.validation.size(), block, "the text for validation");
  return split;
}

}  // namespace bdh
