// A token cache: the tokens of texts in one file, so that they are made once and mapped from then on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bdh/base/file.h"
#include "bdh/base/sha256.h"
#include "bdh/train/token_data.h"

namespace bdh {

/// Bytes that hold any token of a vocabulary: 1, 2 or 4.
int token_width(int64_t vocab_size);

/// Tokens as little-endian unsigned numbers of so many bytes.
std::vector<std::byte> packed_tokens(std::span<const int32_t> tokens, int width);

/// Writes a cache that appears complete or not at all. `key` names what the tokens were made of: 64
/// hexadecimal digits. Throws Error(io).
class TokenCacheWriter {
 public:
  TokenCacheWriter(const std::filesystem::path& file, std::string key, int width);
  /// Each token in [0, 256^width).
  void add(std::span<const int32_t> tokens);
  void commit(uint64_t text_bytes);

 private:
  AtomicFile file_;
  Sha256 hash_;
  std::string key_;
  int width_;
  uint64_t size_ = 0;
};

/// Maps a cache after checking all of it against its hash. Hostile input. Throws Error(not_found),
/// Error(bad_file) where it is damaged or was made of something else than `key` says, Error(io).
TokenData read_token_cache(const std::filesystem::path& path, const std::string& key);

}  // namespace bdh
