// Unicode as the `tokenizers` package sees it: characters, their categories, normal forms and lower case, on
// valid UTF-8.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace bdh::tokenizers {

/// Bytes of the character that begins with this byte.
inline size_t character_bytes(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

struct Character {
  char32_t code;
  size_t bytes;
};
/// The character at text[at].
Character character_at(std::string_view text, size_t at);
/// Where the character that ends before text[end] begins.
size_t character_before(std::string_view text, size_t end);
size_t count_characters(std::string_view text);
void append_character(std::string& text, char32_t code);
bool is_ascii(std::string_view text);

bool is_white_space(char32_t c);
bool is_punctuation(char32_t c);      // ASCII symbols and category P
bool is_control(char32_t c);          // categories Cc, Cf and Co
bool is_mark(char32_t c);             // category M
bool is_nonspacing_mark(char32_t c);  // category Mn
bool is_letter(char32_t c);           // category L
bool is_number(char32_t c);           // category N
bool is_word(char32_t c);             // \w of a regular expression
bool is_ideograph(char32_t c);        // the CJK blocks that BERT sets apart

enum class NormalForm { nfc, nfd, nfkc, nfkd };
std::string normalized(std::string_view text, NormalForm form);
std::string lowered(std::string_view text);

/// Calls visit(cluster) for each extended grapheme cluster.
template <class Visit>
void each_grapheme(std::string_view text, Visit visit);
/// The end of the grapheme cluster that begins at text[at].
size_t grapheme_end(std::string_view text, size_t at);

template <class Visit>
void each_grapheme(std::string_view text, Visit visit) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = grapheme_end(text, at);
    visit(text.substr(at, end - at));
    at = end;
  }
}

/// The text with each character replaced: replace(code, out) appends what stands for it.
template <class Replace>
std::string transformed(std::string_view text, Replace replace) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Character c = character_at(text, at);
    replace(c.code, out);
    at += c.bytes;
  }
  return out;
}

}  // namespace bdh::tokenizers
