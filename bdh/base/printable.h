// Names out of hostile files, made fit for a one-line message.
#pragma once

#include <string>
#include <string_view>

namespace bdh {

/// The name in single quotes: control characters, DEL and invalid UTF-8 as \xNN, cut to about 100 bytes.
std::string printable(std::string_view name);

/// Length in bytes of the UTF-8 character that `text` starts with; 0 when it starts with none, or is empty.
size_t utf8_length(std::string_view text);

bool is_utf8(std::string_view text);

}  // namespace bdh
