// Drafts from the text itself: what followed the last time that the text ended as it does now.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace bdh {

class Drafts {
 public:
  Drafts();

  /// A guess at the tokens that follow `text`, at most `most`; empty where there is none worth reading. Call
  /// with the same text, grown; what is in it is remembered up to a bound, the latest first.
  std::vector<int32_t> next(std::span<const int32_t> text, int64_t most);
  /// How many of the tokens that were guessed last came true. Guesses grow while they do, and pause when they
  /// do not: reading in vain costs time.
  void confirm(int64_t right);

 private:
  size_t slot(std::span<const int32_t> text, size_t end, size_t length) const;
  void remember(std::span<const int32_t> text);
  size_t found(std::span<const int32_t> text) const;

  static constexpr size_t kSlots = 1 << 14;  // to a length; later n-grams displace earlier ones
  static constexpr std::array<size_t, 3> kLengths{12, 8, 5};  // of n-grams, the longest first
  std::array<std::vector<uint32_t>, 3> ends_;  // where an n-gram ended last, by its hash; 0: nowhere
  size_t remembered_ = 0;                      // n-grams that end before this are in the tables
  int64_t length_ = 2, guessed_ = 0;
  int64_t pause_ = 0, patience_ = 8;  // guesses to leave out: now, and after the next failure
};

}  // namespace bdh
