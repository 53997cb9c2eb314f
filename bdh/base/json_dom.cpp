// simdjson's DOM of a text, strictly checked.
#include "bdh/base/json_dom.h"

#include <cstdint>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"

namespace bdh {
namespace {

std::string_view describe(simdjson::error_code code) {
  switch (code) {
    case simdjson::CAPACITY:
      return "it is too long";
    case simdjson::DEPTH_ERROR:
      return "it is nested too deeply";
    case simdjson::STRING_ERROR:
      return "a string has an invalid escape";
    case simdjson::NUMBER_ERROR:
      return "a number is malformed or out of range";
    case simdjson::UTF8_ERROR:
      return "it is not valid UTF-8";
    case simdjson::EMPTY:
      return "it is empty";
    case simdjson::UNESCAPED_CHARS:
      return "a string has an unescaped control character";
    case simdjson::UNCLOSED_STRING:
      return "a string has no end";
    case simdjson::TAPE_ERROR:
      return "a comma, colon, bracket or value is missing or misplaced";
    case simdjson::T_ATOM_ERROR:
    case simdjson::F_ATOM_ERROR:
    case simdjson::N_ATOM_ERROR:
      return "a word other than true, false and null stands as a value";
    default:
      return simdjson::error_message(code);
  }
}

// The four hexadecimal digits after \u, known to be there.
uint32_t code_unit(std::string_view digits) {
  uint32_t value = 0;
  for (const char c : digits)
    value = value * 16 + static_cast<uint32_t>(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
  return value;
}

// True when an escape in valid JSON is half of a surrogate pair, which some versions of simdjson let pass.
bool has_lone_surrogate(std::string_view text) {
  bool after_high = false;
  for (size_t i = text.find('\\'), next = 0; i != text.npos; i = text.find('\\', next)) {
    if (after_high && i != next) return true;
    const bool unicode = text[i + 1] == 'u';
    const uint32_t unit = unicode ? code_unit(text.substr(i + 2, 4)) : 0;
    const bool low = unit >= 0xdc00 && unit < 0xe000;
    if (low != after_high) return true;
    after_high = unit >= 0xd800 && unit < 0xdc00;
    next = i + (unicode ? 6 : 2);
  }
  return after_high;
}

}  // namespace

bool is_json(simdjson::dom::parser& parser, std::string_view text) {
  simdjson::dom::element root;
  return !text.empty() && parser.parse(text.data(), text.size()).get(root) == simdjson::SUCCESS;
}

simdjson::dom::element parse_json_dom(simdjson::dom::parser& parser, std::string_view text,
                                      std::string_view source) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.substr(0, 3) == kByteOrderMark) {
    fail(ErrorKind::bad_file, source, ": starts with a byte order mark; save it as plain UTF-8");
  }
  simdjson::dom::element root;
  const simdjson::error_code code =
      text.empty() ? simdjson::EMPTY : parser.parse(text.data(), text.size()).get(root);
  if (code == simdjson::MEMALLOC) {
    fail(ErrorKind::out_of_memory, source, ": not enough memory to parse ", format_bytes(text.size()),
         " of JSON; free some memory");
  }
  if (code != simdjson::SUCCESS) {
    fail(ErrorKind::bad_file, source, ": not valid JSON: ", describe(code),
         "; correct the file or get it again");
  }
  if (has_lone_surrogate(text)) {
    fail(ErrorKind::bad_file, source, ": not valid JSON: a string has half of a surrogate pair; ",
         "correct the file or get it again");
  }
  return root;
}

}  // namespace bdh
