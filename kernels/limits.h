// Limits that every backend keeps. No inline code: files for instruction sets that a processor may lack
// include it.
#pragma once

#include <cstdint>

namespace bdh {

/// The last position a token may stand at.
constexpr int64_t kMaxPosition = int64_t{1} << 53;
/// The most tokens of a sequence that are read provisionally.
constexpr int64_t kMostProvisional = 8;
/// What has decayed below this is 0.
constexpr float kSmallest = 1e-30f;

}  // namespace bdh
