// A vocabulary: texts to tokens and back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"

namespace bdh::tokenizers {

class Vocabulary {
 public:
  static constexpr int32_t kNone = -1;

  struct Entry {
    std::string_view text;
    int32_t token;
  };

  Vocabulary() = default;
  /// Of two entries with the same text the later one counts, and of two with the same token the first.
  explicit Vocabulary(const std::vector<Entry>& entries);

  /// kNone when there is none.
  int32_t find(std::string_view text) const;
  /// Nothing when there is none. The text lives as long as the vocabulary.
  std::optional<std::string_view> text(int32_t token) const;
  /// How many texts there are.
  size_t size() const { return size_; }
  /// One more than the largest token.
  int64_t limit() const { return by_token_.empty() ? 0 : int64_t{entries_[by_token_.back()].token} + 1; }
  /// The entries as they were given; their texts live as long as the vocabulary.
  std::vector<Entry> entries() const;

 private:
  struct Stored {
    uint64_t begin;  // in bytes_
    uint32_t length;
    int32_t token;
  };
  struct Slot {
    uint32_t tag = 0;    // part of the hash
    uint32_t entry = 0;  // 0: empty; else one more than the index in entries_
  };

  std::string_view text_of(const Stored& entry) const {
    return std::string_view(bytes_).substr(entry.begin, entry.length);
  }

  std::string bytes_;
  std::vector<Stored> entries_;
  std::vector<uint32_t> by_token_;  // indices into entries_, in the order of their tokens
  std::vector<Slot> slots_;
  uint64_t seed_ = 0;
  size_t size_ = 0;
};

/// {"text": token, ...}. `where` names it in errors. Throws Error(bad_file).
Vocabulary read_vocabulary(const Json& json, const std::string& where);

}  // namespace bdh::tokenizers
