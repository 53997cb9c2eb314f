// Products with activations of which many are zero: dense or sparse, as their density decides.
#pragma once

#include <numeric>

#include "kernels/cpu/training/pass.h"

namespace bdh::cpu {

// Measured on AVX-512 at D 128 and 256: below this share of elements that are wanted it is faster to make
// those alone.
constexpr double kSampleDensity = 0.35;

inline double density(int64_t active, int64_t neurons, int64_t tokens) {
  return static_cast<double>(active) / static_cast<double>(neurons * tokens);
}

/// Of the group's activations of those heads, from the counts of each block.
inline double active_share(const Pass& p, const Heads& heads, const std::vector<int64_t>& active) {
  const auto end = active.begin() + static_cast<std::ptrdiff_t>(neuron_blocks(p, heads));
  return density(std::accumulate(active.begin(), end, int64_t{0}), heads.count * p.dims.neurons,
                 p.group.rows);
}

inline void add_product(const Pass& p, const Product& product, bool sparse) {
  (sparse ? p.kernels.add_sparse : p.kernels.multiply)(product);
}

/// out (neurons, stride) += activations (neurons, columns) x (rows, stride).
inline void add_weight_gradient(const Pass& p, int64_t neurons, const float* activations, double density,
                                const float* x, float* out) {
  add_product(
      p,
      {neurons, p.stride, p.group.rows, activations, p.columns, 1, plain(x, p.stride), out, p.stride, true},
      density < kSparseShare);
}

/// out (block's rows, stride) += the block's columns of activations (N, columns), transposed, times rows (N,
/// stride) of parameters.
inline void add_rows_product(const Pass& p, const RowBlock& block, const float* activations, double density,
                             const float* parameters, float* out) {
  add_product(p,
              {block.count, p.stride, p.dims.neurons, activations + block.begin, 1, p.columns,
               plain(parameters, p.stride), out, p.stride, true},
              density < kSparseShare);
}

}  // namespace bdh::cpu
