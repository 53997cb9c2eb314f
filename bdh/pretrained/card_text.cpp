// Words from anywhere, made fit for a model card: escaping of YAML scalars and Markdown.
#include "bdh/pretrained/card_text.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/utf8.h"

namespace bdh {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_letter_or_digit(char c) { return is_letter(c) || (c >= '0' && c <= '9'); }
bool is_control(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }
bool is_ascii(char c) { return static_cast<unsigned char>(c) < 0x80; }

/// Letters, digits and marks that mean nothing in YAML or Markdown.
bool is_plain_word(std::string_view text) {
  constexpr std::string_view kMarks = "_./-";
  const auto plain = [&](char c) {
    return is_letter_or_digit(c) || kMarks.find(c) != std::string_view::npos;
  };
  return !text.empty() && std::all_of(text.begin(), text.end(), plain);
}

/// Words that YAML 1.1 reads as booleans or null.
bool is_yaml_keyword(std::string_view text) {
  constexpr std::array<std::string_view, 9> kKeywords{"true", "false", "yes", "no", "on",
                                                      "off",  "null",  "y",   "n"};
  std::string lower;
  for (const char c : text) lower += static_cast<char>(is_letter(c) ? c | 0x20 : c);
  return std::find(kKeywords.begin(), kKeywords.end(), lower) != kKeywords.end();
}

uint32_t code_point(std::string_view character) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(character[i])); };
  if (character.size() == 1) return byte(0);
  uint32_t code = byte(0) & (0x7fu >> character.size());
  for (size_t i = 1; i < character.size(); ++i) code = code << 6 | (byte(i) & 0x3f);
  return code;
}

/// Characters that YAML does not allow, takes for line breaks, or that nobody would see.
bool needs_yaml_escape(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x2028 || code == 0x2029 || code == 0xfeff ||
         (code & 0xfffe) == 0xfffe;
}

std::string yaml_escape(uint32_t code) {
  char text[16];
  std::snprintf(text, sizeof text, code > 0xffff ? "\\U%08x" : "\\u%04x", static_cast<unsigned>(code));
  return text;
}

/// Whether the character at `at` means something to Markdown there.
bool needs_markdown_escape(std::string_view text, size_t at) {
  constexpr std::string_view kAlways = "\\`*{}[]<>#|~&!$";
  constexpr std::string_view kAtStart = "+-=:";
  if (at == 0 && kAtStart.find(text[at]) != std::string_view::npos) return true;
  if (text[at] != '_') return kAlways.find(text[at]) != std::string_view::npos;
  const bool inside =
      at > 0 && at + 1 < text.size() && is_letter_or_digit(text[at - 1]) && is_letter_or_digit(text[at + 1]);
  return !inside;
}

}  // namespace

std::string yaml_scalar(std::string_view text) {
  if (is_plain_word(text) && is_letter(text[0]) && !is_yaml_keyword(text)) return std::string(text);
  const std::string valid = valid_utf8(text);
  std::string out = "\"";
  for (std::string_view rest = valid; !rest.empty();) {
    const std::string_view character = rest.substr(0, utf8_length(rest));
    const uint32_t code = code_point(character);
    if (code == '"' || code == '\\') out += '\\';
    out += needs_yaml_escape(code) ? yaml_escape(code) : std::string(character);
    rest.remove_prefix(character.size());
  }
  return out + '"';
}

std::string markdown_text(std::string_view text) {
  std::string line = valid_utf8(text);
  std::replace_if(line.begin(), line.end(), is_control, ' ');
  const size_t first = line.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  line = line.substr(first, line.find_last_not_of(' ') + 1 - first);
  std::string out;
  for (size_t i = 0; i < line.size(); ++i) {
    if (is_ascii(line[i]) && needs_markdown_escape(line, i)) out += '\\';
    out += line[i];
  }
  return out;
}

std::string markdown_word(std::string_view text) {
  return is_plain_word(text) ? concat("`", text, "`") : markdown_text(text);
}

}  // namespace bdh
