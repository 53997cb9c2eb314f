// Drafts from the text itself.
#include "bdh/text/drafts.h"

#include <algorithm>
#include <limits>

namespace bdh {
namespace {

constexpr int64_t kShortest = 2, kMostPatience = 256, kLeastPatience = 8;

}  // namespace

Drafts::Drafts() { ends_.fill(std::vector<uint32_t>(kSlots)); }

size_t Drafts::slot(std::span<const int32_t> text, size_t end, size_t length) const {
  uint64_t hash = length;
  for (const int32_t token : text.subspan(end - length, length))
    hash = (hash ^ static_cast<uint32_t>(token)) * 0x9E3779B97F4A7C15;
  return hash >> 50;
}

void Drafts::remember(std::span<const int32_t> text) {
  const size_t last = std::min<size_t>(text.size(), std::numeric_limits<uint32_t>::max());
  for (size_t end = std::max<size_t>(remembered_, 1); end < last; ++end) {
    for (size_t i = 0; i < kLengths.size(); ++i)
      if (end >= kLengths[i]) ends_[i][slot(text, end, kLengths[i])] = static_cast<uint32_t>(end);
  }
  remembered_ = std::max(remembered_, last);
}

// Where the longest n-gram that ends the text ended before; 0: nowhere.
size_t Drafts::found(std::span<const int32_t> text) const {
  for (size_t i = 0; i < kLengths.size(); ++i) {
    const size_t length = kLengths[i];
    if (text.size() <= length) continue;
    const size_t end = ends_[i][slot(text, text.size(), length)];
    if (end == 0 || end >= text.size()) continue;
    const auto same = text.subspan(end - length, length);
    if (std::equal(same.begin(), same.end(), text.end() - static_cast<std::ptrdiff_t>(length))) return end;
  }
  return 0;
}

std::vector<int32_t> Drafts::next(std::span<const int32_t> text, int64_t most) {
  remember(text);
  guessed_ = 0;
  if (pause_ > 0) {
    --pause_;
    return {};
  }
  const size_t end = found(text);
  if (end == 0) return {};
  guessed_ = std::min({length_, most, static_cast<int64_t>(text.size() - end)});
  if (guessed_ <= 0) return {};
  const auto guess = text.subspan(end, static_cast<size_t>(guessed_));
  return {guess.begin(), guess.end()};
}

void Drafts::confirm(int64_t right) {
  if (guessed_ == 0) return;
  if (right == guessed_) {
    length_ = 2 * length_;
    patience_ = kLeastPatience;
  } else {
    length_ = std::max(kShortest, right);
  }
  if (right > 0) return;
  pause_ = patience_;
  patience_ = std::min(2 * patience_, kMostPatience);
}

}  // namespace bdh
