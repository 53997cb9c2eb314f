// Token numbers as people give them on a command line or in a file.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace bdh::tools {

/// Whole numbers separated by commas or blanks, at least one. Throws Error(invalid_argument).
std::vector<int32_t> parse_tokens(std::string_view text);
/// Throws Error(invalid_argument) naming the first that is not in [0, vocabulary).
void require_in_vocabulary(std::span<const int32_t> tokens, int64_t vocabulary);

}  // namespace bdh::tools
