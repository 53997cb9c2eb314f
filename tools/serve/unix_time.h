// The time of day, as OpenAI's API tells it.
#pragma once

#include <chrono>
#include <cstdint>

namespace bdh::tools {

/// Seconds since 1970.
inline int64_t unix_time() {
  const auto since = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(since).count();
}

}  // namespace bdh::tools
