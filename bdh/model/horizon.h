// A horizon as files and people write it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"

namespace bdh {

/// As SessionOptions::horizon: tokens, one number for all heads or one for each; empty: none. In JSON a
/// number, an array of them, or null; infinity is the string "inf". Throws Error(bad_file) for anything else,
/// and for a number that is not above 0.
std::vector<float> horizon_from_json(const Json& json);
Json horizon_to_json(const std::vector<float>& horizon);

/// "48", "12,48", "inf", "none". Throws Error(invalid_argument).
std::vector<float> parse_horizon(std::string_view text);
std::string horizon_text(const std::vector<float>& horizon);

}  // namespace bdh
