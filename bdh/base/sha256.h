// SHA-256 (FIPS 180-4) of bytes and files.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace bdh {

/// Takes bytes in pieces of any length.
class Sha256 {
 public:
  void add(std::span<const std::byte> bytes);
  /// The digest as 64 lower-case hexadecimal digits. Ends the object's use.
  std::string finish();

 private:
  void add_blocks(const std::byte* bytes, size_t count);

  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> rest_{};
  uint64_t length_ = 0;  // bytes taken
};

/// The digest of a text.
std::string sha256_of(std::string_view text);

/// The digest of a file, read in pieces whose pages are given back. `progress` is told the bytes of each
/// piece. Throws as MappedFile::open.
std::string sha256_of_file(const std::filesystem::path& path,
                           const std::function<void(size_t)>& progress = {});

}  // namespace bdh
