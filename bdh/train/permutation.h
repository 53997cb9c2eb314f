// A permutation of [0, size) that needs no table.
#pragma once

#include <cstdint>

namespace bdh {

/// Where `index`, in [0, size), goes in permutation number `number` of a seed.
int64_t permuted(int64_t index, int64_t size, uint64_t seed, uint64_t number);

}  // namespace bdh
