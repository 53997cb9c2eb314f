// TokenData: the tokens that a run reads, mapped from a file or held in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace bdh {

/// Tokens one after the other. A value; copies share.
class TokenData {
 public:
  TokenData() = default;
  static TokenData of(std::vector<int32_t> tokens);
  /// `size` little-endian unsigned tokens of `width` bytes each (1, 2 or 4) at `data`, which `owner` keeps.
  TokenData(std::shared_ptr<const void> owner, const std::byte* data, int64_t size, int width,
            uint64_t text_bytes);

  int64_t size() const { return size_; }
  /// Tokens [begin, begin + count) as int32. Throws Error(invalid_argument) outside [0, size()).
  void copy(int64_t begin, int64_t count, int32_t* to) const;
  /// The tokens [begin, end) as data of their own.
  TokenData part(int64_t begin, int64_t end) const;
  /// SHA-256 of the tokens as little-endian int32, however they are stored: what a checkpoint remembers.
  /// Reads all of them when it is first asked.
  const std::string& hash() const;
  /// Bytes of the text they stand for; 0: not known. Bits per byte are made of it. A part has its share of
  /// the whole's by its tokens, which is exact where tokens are bytes.
  uint64_t text_bytes() const { return text_bytes_; }

 private:
  struct Hash;

  std::shared_ptr<const void> owner_;
  const std::byte* data_ = nullptr;
  int64_t size_ = 0;
  int width_ = 4;  // bytes of a stored token: 1, 2 or 4
  uint64_t text_bytes_ = 0;
  std::shared_ptr<Hash> hash_;
};

struct DataSplit {
  TokenData train, validation;
};
/// The last `share` of the tokens for validation. Throws Error(invalid_argument) where either part is shorter
/// than a block and its target.
DataSplit split_tokens(const TokenData& data, double share, int64_t block);

}  // namespace bdh
