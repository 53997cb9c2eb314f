// The reading of escapes: \x41, \x{41}, \u0041, \101, \cA and the letters.
#include "bdh/text/tokenizers/pattern_reader.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

}  // namespace

void PatternReader::invalid(std::string_view what) const {
  fail(ErrorKind::bad_file, where_, ": the regular expression ", printable(in_), " is not valid: ", what,
       " at byte ", at_);
}

void PatternReader::unsupported(std::string_view what) const {
  fail(ErrorKind::unsupported, where_, ": the regular expression ", printable(in_), " has ", what,
       ", which bdh does not support, at byte ", at_);
}

bool PatternReader::take(std::string_view text) {
  if (!rest().starts_with(text)) return false;
  at_ += text.size();
  return true;
}

char32_t PatternReader::take_character() {
  const Character c = character_at(in_, at_);
  at_ += c.bytes;
  return c.code;
}

std::string_view PatternReader::take_until(char end) {
  const size_t found = in_.find(end, at_);
  if (found == in_.npos) invalid(std::string("no '") + end + "' follows");
  const std::string_view text = in_.substr(at_, found - at_);
  at_ = found + 1;
  return text;
}

std::string_view PatternReader::take_digits() {
  const size_t start = at_;
  while (peek() >= '0' && peek() <= '9') ++at_;
  return in_.substr(start, at_ - start);
}

char32_t PatternReader::hexadecimal(size_t least, size_t most) {
  char32_t code = 0;
  size_t digits = 0;
  for (; digits < most && hex_value(peek()) >= 0; ++digits, ++at_)
    code = code * 16 + static_cast<char32_t>(hex_value(peek()));
  if (digits < least) invalid("a character's number has too few digits");
  return code;
}

char32_t PatternReader::braced_code() {
  if (hex_value(peek()) < 0) unsupported("an \\x{...} without a number");
  const char32_t code = hexadecimal(1, 8);
  if (peek() == ' ' || peek() == '\n' || peek() == '-') unsupported("several characters in one \\x{...}");
  if (!take("}")) invalid("a character's number is not hexadecimal");
  if (code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) invalid("a number is no character's");
  return code;
}

/// From 0x80 on, Oniguruma takes the number for a byte of a character, not for a character.
char32_t PatternReader::one_byte(char32_t code) const {
  if (code > 0xFF) invalid("a byte's number is too large");
  if (code >= 0x80) unsupported("a byte beyond ASCII by its number");
  return code;
}

char32_t PatternReader::octal(char32_t first) {
  char32_t code = first - '0';
  for (size_t digits = 0; digits < 2 && peek() >= '0' && peek() <= '7'; ++digits, ++at_)
    code = code * 8 + static_cast<char32_t>(peek() - '0');
  return one_byte(code);
}

char32_t PatternReader::control() {
  if (!more()) invalid("it ends with a control character's beginning");
  char32_t c = take_character();
  if (c == '?') return 0x7F;
  if (c == '\\') {
    if (!more()) invalid("it ends with a backslash");
    c = escaped_character(take_character());
  }
  if (c >= 0x80) unsupported("a control character beyond ASCII");
  return c & 0x9F;
}

char32_t PatternReader::escaped_character(char32_t c) {
  switch (c) {
    case 't':
      return '\t';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 'f':
      return '\f';
    case 'v':
      return '\v';
    case 'a':
      return '\a';
    case 'e':
      return 0x1B;
    case 'x':
      if (!more()) return c;
      return take("{") ? braced_code() : one_byte(hexadecimal(0, 2));
    case 'u': {
      if (!more()) return c;
      const char32_t code = hexadecimal(4, 4);
      if (code >= 0xD800 && code <= 0xDFFF) invalid("a number is no character's");
      return code;
    }
    case 'c':
      return control();
    case 'C':
      if (!take("-")) invalid("\\C is not followed by '-'");
      return control();
    case 'M':
      if (!take("-")) invalid("\\M is not followed by '-'");
      unsupported("a byte beyond ASCII, \\M-");
    default:
      return c >= '0' && c <= '7' ? octal(c) : c;
  }
}

}  // namespace bdh::tokenizers
