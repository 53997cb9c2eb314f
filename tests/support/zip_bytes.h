// Zip archives put together by hand, right or wrong.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bdh::test {

/// One entry: what is in the archive, and what the directory says of it.
struct ZipPart {
  std::string name;
  std::string data = {};  // as it stands in the archive
  uint16_t method = 0;    // 8: deflated
  uint16_t flags = 0;
  std::optional<uint64_t> unpacked = {};  // bytes that the entry claims to hold; else as many as stand there
  std::optional<uint64_t> stored = {};    // bytes that it claims to take
  std::optional<uint32_t> checksum = {};  // else that of data
  std::optional<uint64_t> at = {};        // no local header of its own: it is said to lie there
};

enum class ZipKind { plain, zip64 };

std::string zip_bytes(const std::vector<ZipPart>& parts, ZipKind kind = ZipKind::plain);

uint32_t crc32(std::string_view bytes);

/// A deflate stream that holds the text as it is.
std::string deflated(std::string_view text);

/// A deflate stream of that many zero bytes, rounded up to a few hundred: about 160 to each of its own.
std::string deflated_zeros(uint64_t count);

}  // namespace bdh::test
