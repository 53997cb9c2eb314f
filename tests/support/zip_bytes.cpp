// Zip archives put together by hand, right or wrong.
#include "tests/support/zip_bytes.h"

#include <utility>

namespace bdh::test {
namespace {

using namespace std::string_literals;

constexpr uint16_t kZip64Version = 45;

std::string number(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

// What the local header and the directory have in common: version to name's length.
std::string common(const ZipPart& part, ZipKind kind) {
  const uint64_t all_ones = 0xffffffff;
  const bool wide = kind == ZipKind::zip64;
  return number(kZip64Version, 2) + number(part.flags, 2) + number(part.method, 2) + number(0, 4) +
         number(part.checksum.value_or(crc32(part.data)), 4) +
         number(wide ? all_ones : part.stored.value_or(part.data.size()), 4) +
         number(wide ? all_ones : part.unpacked.value_or(part.data.size()), 4) + number(part.name.size(), 2);
}

std::string zip64_field(const ZipPart& part, std::optional<uint64_t> offset) {
  const std::string sizes =
      number(part.unpacked.value_or(part.data.size()), 8) + number(part.stored.value_or(part.data.size()), 8);
  const std::string content = offset ? sizes + number(*offset, 8) : sizes;
  return number(1, 2) + number(content.size(), 2) + content;
}

std::string local_header(const ZipPart& part, ZipKind kind) {
  const std::string extra = kind == ZipKind::zip64 ? zip64_field(part, std::nullopt) : "";
  return "PK\x03\x04"s + common(part, kind) + number(extra.size(), 2) + part.name + extra;
}

std::string directory_entry(const ZipPart& part, uint64_t offset, ZipKind kind) {
  const bool wide = kind == ZipKind::zip64;
  const std::string extra = wide ? zip64_field(part, offset) : "";
  return "PK\x01\x02"s + number(kZip64Version, 2) + common(part, kind) + number(extra.size(), 2) +
         number(0, 8) + number(0, 2) + number(wide ? 0xffffffff : offset, 4) + part.name + extra;
}

std::string zip64_end(uint64_t entries, uint64_t directory_bytes, uint64_t directory_offset) {
  return "PK\x06\x06"s + number(44, 8) + number(kZip64Version, 2) + number(kZip64Version, 2) + number(0, 8) +
         number(entries, 8) + number(entries, 8) + number(directory_bytes, 8) + number(directory_offset, 8) +
         "PK\x06\x07"s + number(0, 4) + number(directory_offset + directory_bytes, 8) + number(1, 4);
}

// Bits as deflate packs them.
class BitWriter {
 public:
  void bits(uint32_t value, int count) {
    for (int i = 0; i < count; ++i) bit(value >> i & 1);
  }
  // Codes stand with their highest bit first.
  void code(uint32_t value, int count) {
    for (int i = count; i-- > 0;) bit(value >> i & 1);
  }
  std::string take() { return std::move(out_); }

 private:
  void bit(uint32_t value) {
    if (used_ == 0) out_ += '\0';
    out_.back() = static_cast<char>(static_cast<unsigned char>(out_.back()) | value << used_);
    used_ = (used_ + 1) % 8;
  }
  std::string out_;
  unsigned used_ = 0;
};

}  // namespace

uint32_t crc32(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int i = 0; i < 8; ++i) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1)));
  }
  return ~crc;
}

std::string deflated(std::string_view text) {
  std::string out;
  do {
    const std::string_view block = text.substr(0, 65535);
    text.remove_prefix(block.size());
    out += text.empty() ? '\1' : '\0';
    out += number(block.size(), 2) + number(~block.size(), 2);
    out += block;
  } while (!text.empty());
  return out;
}

// One literal, then matches of 258 bytes at distance 1, in the fixed code.
std::string deflated_zeros(uint64_t count) {
  constexpr uint64_t kMatch = 258;
  BitWriter out;
  out.bits(1, 1);
  out.bits(1, 2);
  out.code(0x30, 8);
  for (uint64_t done = 1; done < count; done += kMatch) {
    out.code(0xc5, 8);
    out.code(0, 5);
  }
  out.code(0, 7);
  return out.take();
}

std::string zip_bytes(const std::vector<ZipPart>& parts, ZipKind kind) {
  std::string out, directory;
  for (const ZipPart& part : parts) {
    directory += directory_entry(part, part.at.value_or(out.size()), kind);
    if (!part.at) out += local_header(part, kind) + part.data;
  }
  const bool wide = kind == ZipKind::zip64;
  const std::string end = wide ? zip64_end(parts.size(), directory.size(), out.size()) : "";
  const uint64_t offset = out.size();
  return out + directory + end + "PK\x05\x06" + number(0, 4) + number(parts.size(), 2) +
         number(parts.size(), 2) + number(directory.size(), 4) + number(wide ? 0xffffffff : offset, 4) +
         number(0, 2);
}

}  // namespace bdh::test
