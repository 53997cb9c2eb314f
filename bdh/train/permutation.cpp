// A permutation as a Feistel network of Philox over a grid of at least `size` cells, a little higher than
// wide: each round shifts one coordinate by a function of the other, which can be undone, so that no two
// cells meet. A cell past the end is sent through again until it lies before it (Black and Rogaway, "Ciphers
// with Arbitrary Finite Domains", CT-RSA 2002).
#include "bdh/train/permutation.h"

#include <array>
#include <cmath>

#include "bdh/base/philox.h"

namespace bdh {
namespace {

constexpr uint32_t kRounds = 8;
constexpr uint64_t kPurpose = 0x7065726d75746564;  // keeps a seed's permutations apart from its other numbers

/// In [0, size), of a uniform word and a half.
uint64_t below(uint64_t size, uint32_t high, uint32_t low) {
  return ((uint64_t{high} << 32 | low) >> 1) % size;
}

struct Grid {
  uint64_t width, height;
};

/// Close to a square: the cells past the end are fewer than one row.
Grid grid_of(uint64_t size) {
  const auto root = static_cast<uint64_t>(std::sqrt(static_cast<double>(size)));
  const uint64_t width = root > 0 ? root : 1;
  return {width, (size + width - 1) / width};
}

uint64_t shuffled(uint64_t cell, Grid grid, uint64_t seed, uint64_t number) {
  uint64_t x = cell % grid.width, y = cell / grid.width;
  const auto low = static_cast<uint32_t>(number), high = static_cast<uint32_t>(number >> 32);
  for (uint32_t round = 0; round < kRounds; ++round) {
    const bool even = round % 2 == 0;
    const auto fixed = static_cast<uint32_t>(even ? x : y);
    const std::array<uint32_t, 4> words = philox({fixed, round, low, high}, seed ^ kPurpose);
    if (even)
      y = (y + below(grid.height, words[0], words[1])) % grid.height;
    else
      x = (x + below(grid.width, words[0], words[1])) % grid.width;
  }
  return y * grid.width + x;
}

}  // namespace

int64_t permuted(int64_t index, int64_t size, uint64_t seed, uint64_t number) {
  const auto cells = static_cast<uint64_t>(size);
  const Grid grid = grid_of(cells);
  auto cell = static_cast<uint64_t>(index);
  do {
    cell = shuffled(cell, grid, seed, number);
  } while (cell >= cells);
  return static_cast<int64_t>(cell);
}

}  // namespace bdh
