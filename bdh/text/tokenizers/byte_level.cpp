// GPT-2's alphabet: printable bytes of Latin-1 stand for themselves, the others for characters from U+0100
// on.
#include "bdh/text/tokenizers/byte_level.h"

#include <array>
#include <cstdint>

#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

constexpr char32_t kFirstSubstitute = 0x100;
constexpr char32_t kLimit = 0x144;  // one past the last character of the alphabet

constexpr bool is_visible(char32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<int16_t, kLimit> byte{};

  constexpr Alphabet() {
    for (int16_t& none : byte) none = -1;
    char32_t next = kFirstSubstitute;
    for (char32_t b = 0; b < 256; ++b) {
      character[b] = is_visible(b) ? b : next++;
      byte[character[b]] = static_cast<int16_t>(b);
    }
  }
};

constexpr Alphabet kAlphabet;

}  // namespace

void append_byte_level(std::string_view bytes, std::string& out) {
  for (const char byte : bytes) append_character(out, kAlphabet.character[static_cast<unsigned char>(byte)]);
}

bool append_bytes(std::string_view byte_level, std::string& out) {
  const size_t before = out.size();
  for (size_t at = 0; at < byte_level.size();) {
    const Character c = character_at(byte_level, at);
    if (c.code >= kLimit || kAlphabet.byte[c.code] < 0) {
      out.resize(before);
      return false;
    }
    out.push_back(static_cast<char>(kAlphabet.byte[c.code]));
    at += c.bytes;
  }
  return true;
}

}  // namespace bdh::tokenizers
