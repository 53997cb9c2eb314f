// The tokens of words met before. Bounded in memory and in the time a look-up takes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bdh::tokenizers {

/// For one thread at a time.
class WordCache {
 public:
  static constexpr size_t kMaxWordBytes = 64;

  WordCache();
  /// What was added for the word; false when there is nothing.
  bool find(std::string_view word, std::vector<int32_t>& tokens) const;
  void add(std::string_view word, std::span<const int32_t> tokens);

 private:
  struct Slot {
    uint32_t tag = 0;
    uint32_t begin = 0;        // of the word in bytes_
    uint32_t first_token = 0;  // in tokens_
    uint8_t length = 0;        // of the word; 0: empty
    uint8_t count = 0;         // of its tokens
  };

  size_t slot_for(std::string_view word, uint64_t hash) const;
  void clear();

  std::vector<Slot> slots_;
  std::string bytes_;
  std::vector<int32_t> tokens_;
  size_t used_ = 0;
  uint64_t seed_;
};

}  // namespace bdh::tokenizers
