// Unicode through utf8proc, held back to the older tables that the `tokenizers` package has where it has
// them.
#include "bdh/text/tokenizers/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "bdh/text/tokenizers/unicode_age.h"

namespace bdh::tokenizers {
namespace {

utf8proc_int32_t signed_code(char32_t c) { return static_cast<utf8proc_int32_t>(c); }

utf8proc_category_t category(char32_t c) { return utf8proc_category(signed_code(c)); }

/// The category in Unicode 8; Cn for what it did not have.
utf8proc_category_t old_category(char32_t c) { return newer_than_8(c) ? UTF8PROC_CATEGORY_CN : category(c); }

bool is_mark_category(utf8proc_category_t category) {
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

bool between(char32_t c, char32_t first, char32_t last) { return c >= first && c <= last; }

bool is_ascii_letter_or_digit(char32_t c) {
  return between(c, '0', '9') || between(c, 'A', 'Z') || between(c, 'a', 'z');
}

using CodePoints = std::vector<utf8proc_int32_t>;

/// Appends what c decomposes into.
void decompose(char32_t c, bool compatibility, CodePoints& out) {
  if (c < 0x80 || newer_than_9(c)) return out.push_back(signed_code(c));
  const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                                      (compatibility ? UTF8PROC_COMPAT : 0));
  std::array<utf8proc_int32_t, 64> buffer{};
  int boundary = 0;
  const utf8proc_ssize_t length =
      utf8proc_decompose_char(signed_code(c), buffer.data(), buffer.size(), options, &boundary);
  if (length <= 0 || length > static_cast<utf8proc_ssize_t>(buffer.size()))
    return out.push_back(signed_code(c));
  out.insert(out.end(), buffer.begin(), buffer.begin() + length);
}

int combining_class(utf8proc_int32_t c) {
  if (c < 0x300 || newer_than_9(static_cast<char32_t>(c))) return 0;
  return utf8proc_get_property(c)->combining_class;
}

/// Canonical order: runs of combining marks by their class.
void reorder(CodePoints& points) {
  const auto starter = [](utf8proc_int32_t c) { return combining_class(c) == 0; };
  for (auto at = points.begin(); at != points.end();) {
    at = std::find_if_not(at, points.end(), starter);
    const auto end = std::find_if(at, points.end(), starter);
    std::stable_sort(at, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return combining_class(a) < combining_class(b);
    });
    at = end;
  }
}

/// Composes what is decomposed and in canonical order. Characters newer than the tables stand between.
CodePoints composed(CodePoints points) {
  constexpr auto kOptions = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto newer = [](utf8proc_int32_t c) { return newer_than_9(static_cast<char32_t>(c)); };
  CodePoints out;
  for (auto at = points.begin(); at != points.end();) {
    const auto end = std::find_if(at, points.end(), newer);
    // One element more: the function is documented to want room for a terminating zero.
    CodePoints part(at, end);
    part.push_back(0);
    const utf8proc_ssize_t length =
        utf8proc_normalize_utf32(part.data(), static_cast<utf8proc_ssize_t>(part.size() - 1), kOptions);
    part.resize(static_cast<size_t>(length));
    out.insert(out.end(), part.begin(), part.end());
    at = std::find_if_not(end, points.end(), newer);
    out.insert(out.end(), end, at);
  }
  return out;
}

}  // namespace

Character character_at(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const size_t bytes = std::min(character_bytes(text[at]), text.size() - at);
  if (bytes == 1) return {byte(0), 1};
  char32_t code = byte(0) & (0xFFu >> (bytes + 1));
  for (size_t i = 1; i < bytes; ++i) code = code << 6 | (byte(i) & 0x3Fu);
  return {code, bytes};
}

size_t character_before(std::string_view text, size_t end) {
  do {
    --end;
  } while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  return end;
}

size_t count_characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

void append_character(std::string& text, char32_t code) {
  if (code < 0x80) return text.push_back(static_cast<char>(code));
  std::array<utf8proc_uint8_t, 4> bytes{};
  const utf8proc_ssize_t length = utf8proc_encode_char(signed_code(code), bytes.data());
  text.append(bytes.begin(), bytes.begin() + length);
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || between(c, 9, 13);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || between(c, 0x2000, 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) return between(c, '!', '~') && !is_ascii_letter_or_digit(c);
  if (c == 0x166D || c == 0x111C9) return true;  // punctuation in Unicode 8, something else since
  const utf8proc_category_t found = old_category(c);
  return found >= UTF8PROC_CATEGORY_PC && found <= UTF8PROC_CATEGORY_PO;
}

bool is_control(char32_t c) {
  if (c < 0x80) return c < 0x20 || c == 0x7F;
  const utf8proc_category_t found = old_category(c);
  return found == UTF8PROC_CATEGORY_CC || found == UTF8PROC_CATEGORY_CF || found == UTF8PROC_CATEGORY_CO;
}

bool is_mark(char32_t c) {
  if (c < 0x300) return false;
  if (c == 0x1CF2 || c == 0x1CF3) return true;  // marks in Unicode 9, letters since
  if (c == 0x111C9) return false;               // a mark since
  return !newer_than_9(c) && is_mark_category(category(c));
}

bool is_nonspacing_mark(char32_t c) {
  if (c < 0x300) return false;
  if (c == 0x1734) return true;  // in Unicode 8, and a spacing one since
  const bool later = c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == 0x111C9;
  return !later && old_category(c) == UTF8PROC_CATEGORY_MN;
}

bool is_letter(char32_t c) {
  const utf8proc_category_t found = category(c);
  return found >= UTF8PROC_CATEGORY_LU && found <= UTF8PROC_CATEGORY_LO;
}

bool is_number(char32_t c) {
  if (c < 0x80) return between(c, '0', '9');
  const utf8proc_category_t found = category(c);
  return found >= UTF8PROC_CATEGORY_ND && found <= UTF8PROC_CATEGORY_NO;
}

bool is_word(char32_t c) {
  if (c < 0x80) return is_ascii_letter_or_digit(c) || c == '_';
  const bool alphabetic_symbol = between(c, 0x24B6, 0x24E9) || between(c, 0x1F130, 0x1F149) ||
                                 between(c, 0x1F150, 0x1F169) || between(c, 0x1F170, 0x1F189);
  if (alphabetic_symbol || c == 0x200C || c == 0x200D) return true;
  const utf8proc_category_t found = category(c);
  return (found >= UTF8PROC_CATEGORY_LU && found <= UTF8PROC_CATEGORY_NL) || found == UTF8PROC_CATEGORY_PC;
}

bool is_ideograph(char32_t c) {
  return c >= 0x3400 && (c <= 0x4DBF || between(c, 0x4E00, 0x9FFF) || between(c, 0xF900, 0xFAFF) ||
                         between(c, 0x20000, 0x2A6DF) || between(c, 0x2A700, 0x2B81F) ||
                         between(c, 0x2B920, 0x2CEAF) || between(c, 0x2F800, 0x2FA1F));
}

std::string normalized(std::string_view text, NormalForm form) {
  if (is_ascii(text)) return std::string(text);
  const bool compatibility = form == NormalForm::nfkc || form == NormalForm::nfkd;
  CodePoints points;
  points.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Character c = character_at(text, at);
    decompose(c.code, compatibility, points);
    at += c.bytes;
  }
  reorder(points);
  if (form == NormalForm::nfc || form == NormalForm::nfkc) points = composed(std::move(points));
  std::string out;
  out.reserve(text.size());
  for (const utf8proc_int32_t c : points) append_character(out, static_cast<char32_t>(c));
  return out;
}

std::string lowered(std::string_view text) {
  constexpr char32_t kCapitalIWithDot = 0x130;  // the one letter whose lower case is two characters
  return transformed(text, [](char32_t c, std::string& out) {
    if (c < 0x80) return out.push_back(static_cast<char>(between(c, 'A', 'Z') ? c + 32 : c));
    if (c == kCapitalIWithDot) {
      out += "i\xCC\x87";
    } else {
      append_character(out, static_cast<char32_t>(utf8proc_tolower(signed_code(c))));
    }
  });
}

size_t grapheme_end(std::string_view text, size_t at) {
  utf8proc_int32_t state = 0;
  Character c = character_at(text, at);
  for (size_t next = at + c.bytes; next < text.size(); next += c.bytes) {
    const char32_t before = c.code;
    c = character_at(text, next);
    if (utf8proc_grapheme_break_stateful(signed_code(before), signed_code(c.code), &state)) return next;
  }
  return text.size();
}

}  // namespace bdh::tokenizers
