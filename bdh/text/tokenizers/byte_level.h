// GPT-2's alphabet: a visible character for every byte.
#pragma once

#include <string>
#include <string_view>

namespace bdh::tokenizers {

/// Each byte as its character.
void append_byte_level(std::string_view bytes, std::string& out);
/// Each character as its byte; false, and nothing appended, when one stands for none.
bool append_bytes(std::string_view byte_level, std::string& out);

}  // namespace bdh::tokenizers
