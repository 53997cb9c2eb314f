// JSON lines: an object a line, with a text in one of its fields.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace bdh {

struct JsonLine {
  std::string_view text;  // lives as long as the call that it is given to
  int64_t number = 0;     // of the line, from 1
  uint64_t end = 0;       // bytes read with it
};

/// Calls take for each line of `bytes` that is not blank. Hostile input. Throws Error(bad_file) naming
/// `source` and the line where it is no JSON object, or one whose `field` is not one string.
void read_json_lines(std::string_view bytes, const std::string& source, const std::string& field,
                     const std::function<void(const JsonLine&)>& take);

}  // namespace bdh
