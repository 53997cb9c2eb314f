// simdjson's DOM of a text, strictly checked. For sources only: what includes it needs simdjson.
#pragma once

#include <simdjson.h>

#include <string_view>

namespace bdh {

/// The deepest nesting of arrays and objects that is read.
inline constexpr int kMaxJsonDepth = 128;

/// Parses one JSON document; the element lives as long as `parser` and is not parsed again. `source` names it
/// in errors. Throws Error(bad_file) for what is not valid UTF-8 JSON and for nesting deeper than simdjson's
/// own limit, which a caller that recurses lowers to kMaxJsonDepth; Error(out_of_memory). Duplicate keys are
/// the caller's to find.
simdjson::dom::element parse_json_dom(simdjson::dom::parser& parser, std::string_view text,
                                      std::string_view source);

/// Whether parse_json_dom would take the text.
bool is_json(simdjson::dom::parser& parser, std::string_view text);

/// The element's value, known to be of that type.
template <class Value>
Value dom_value(simdjson::dom::element element) {
  Value value{};
  [[maybe_unused]] const simdjson::error_code known = element.get(value);
  return value;
}

}  // namespace bdh
