// Names for the beginnings of a prompt on a grid of positions, by which states of them are kept.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bdh/model/session.h"

namespace bdh {

/// [i]: its first (i + 1) * grid tokens, read by such a session in chunks of `grid`, and all else that
/// decides the bits of the state: weights, backend, horizon, dtypes. The last token is in none. Reads the
/// weights for their hash, at the first call.
std::vector<std::string> prefix_points(const Session& session, std::span<const int32_t> tokens, int64_t grid);

}  // namespace bdh
