// The format: the double array's size in bytes, its units, then the replacements; little-endian.
#include "bdh/text/tokenizers/charsmap.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "bdh/text/tokenizers/text_budget.h"
#include "bdh/text/tokenizers/unicode.h"
#include "bdh/text/utf8.h"

namespace bdh::tokenizers {
namespace {

constexpr size_t kMaxClusterBytes = 5;  // longer clusters are not looked up as a whole

[[noreturn]] void fail_map(const std::string& where, const char* what) {
  fail(ErrorKind::bad_file, where, ": ", what);
}

std::string decode_base64(std::string_view text, const std::string& where) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    if (digit == kDigits.npos) fail_map(where, "it is not base64");
    bits = bits << 6 | static_cast<uint32_t>(digit);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes.push_back(static_cast<char>(bits >> count & 0xFF));
  }
  return bytes;
}

uint32_t little_endian(std::string_view bytes, size_t at) {
  uint32_t value = 0;
  for (size_t i = 4; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

// A unit of the double array (darts-clone).
bool has_leaf(uint32_t unit) { return (unit >> 8 & 1) != 0; }
uint32_t value_of(uint32_t unit) { return unit & 0x7FFFFFFF; }
uint32_t label_of(uint32_t unit) { return unit & (0x80000000u | 0xFF); }
uint32_t offset_of(uint32_t unit) { return unit >> 10 << ((unit & 1 << 9) >> 6); }

}  // namespace

Charsmap::Charsmap(std::string_view base64, const std::string& where) {
  const std::string bytes = decode_base64(base64, where);
  if (bytes.size() < 4) fail_map(where, "it is too short");
  const size_t size = little_endian(bytes, 0);
  if (size % 4 != 0 || size > bytes.size() - 4) fail_map(where, "its table is longer than the map");
  for (size_t at = 4; at < 4 + size; at += 4) units_.push_back(little_endian(bytes, at));
  replacements_ = bytes.substr(4 + size);
  if (valid_utf8(replacements_) != replacements_) fail_map(where, "its replacements are not UTF-8");
}

/// The value of the shortest entry that `key` begins with. Outside the table there is nothing.
std::optional<std::string_view> Charsmap::replacement(std::string_view key) const {
  if (units_.empty()) return {};
  size_t node = offset_of(units_[0]);
  for (const char c : key) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte == 0) return {};
    node ^= byte;
    if (node >= units_.size() || label_of(units_[node]) != byte) return {};
    const uint32_t unit = units_[node];
    node ^= offset_of(unit);
    if (!has_leaf(unit)) continue;
    if (node >= units_.size()) return {};
    const size_t begin = value_of(units_[node]);
    if (begin >= replacements_.size()) return {};
    const std::string_view rest = std::string_view(replacements_).substr(begin);
    if ((static_cast<unsigned char>(rest[0]) & 0xC0) == 0x80) return {};
    return rest.substr(0, std::min(rest.find('\0'), rest.size()));
  }
  return {};
}

void Charsmap::append(std::string_view text, std::string& out) const {
  const std::string_view put = replacement(text).value_or(text);
  if (put.size() > text.size()) TextBudget::grow(put.size() - text.size());
  out += put;
}

std::string Charsmap::apply(std::string_view text) const {
  std::string out;
  out.reserve(text.size());
  each_grapheme(text, [&](std::string_view cluster) {
    if (cluster.size() <= kMaxClusterBytes && replacement(cluster)) return append(cluster, out);
    for (size_t at = 0; at < cluster.size(); at += character_bytes(cluster[at]))
      append(cluster.substr(at, character_bytes(cluster[at])), out);
  });
  return out;
}

}  // namespace bdh::tokenizers
