// Text line by line.
#pragma once

#include <algorithm>
#include <string_view>

namespace bdh {

/// The line at the front of `text`, without its end, which is taken off `text`.
inline std::string_view next_line(std::string_view& text) {
  const size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return line;
}

}  // namespace bdh
