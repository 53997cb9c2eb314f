// JSON lines: an object a line, with a text in one of its fields.
#include "bdh/train/jsonl.h"

#include "bdh/base/error.h"
#include "bdh/base/json_dom.h"
#include "bdh/base/lines.h"
#include "bdh/base/memory.h"
#include "bdh/base/printable.h"

namespace bdh {
namespace {

constexpr size_t kMaxLineBytes = 256'000'000;

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

/// The one string under `field`; lives as long as the parser's document.
std::string_view text_of(simdjson::dom::element element, const std::string& field, const std::string& where) {
  if (!element.is_object())
    fail(ErrorKind::bad_file, where, ": is no JSON object; each line must be one, with the text in ",
         printable(field));
  std::string_view text;
  int found = 0;
  for (const auto& [key, value] : dom_value<simdjson::dom::object>(element)) {
    if (key != field) continue;
    if (!value.is_string()) fail(ErrorKind::bad_file, where, ": ", printable(field), " is no string");
    text = dom_value<std::string_view>(value);
    ++found;
  }
  if (found == 1) return text;
  fail(ErrorKind::bad_file, where, ": has ", found == 0 ? "no " : "more than one ", printable(field),
       "; name the field that holds the text");
}

}  // namespace

void read_json_lines(std::string_view bytes, const std::string& source, const std::string& field,
                     const std::function<void(const JsonLine&)>& take) {
  simdjson::dom::parser parser;
  std::string_view rest = bytes;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = next_line(rest);
    if (is_blank(line)) continue;
    const std::string where = concat(source, ", line ", number);
    if (line.size() > kMaxLineBytes)
      fail(ErrorKind::bad_file, where, ": has ", format_bytes(line.size()), ", more than the ",
           format_bytes(kMaxLineBytes), " a line may have");
    take({text_of(parse_json_dom(parser, line, where), field, where), number, bytes.size() - rest.size()});
  }
}

}  // namespace bdh
