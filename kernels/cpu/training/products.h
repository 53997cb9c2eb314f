// Products with activations of which many are zero: dense or sparse, as their density decides.
#pragma once

#include <numeric>

#include "kernels/cpu/training/pass.h"

namespace bdh::cpu {

// Measured on AVX-512 at D 128 and 256: below these shares of non-zero elements the sparse kernels are
// faster.
constexpr double kGatherDensity = 0.7, kScatterDensity = 0.4, kSampleDensity = 0.35;

inline double density(int64_t active, int64_t neurons, int64_t tokens) {
  return static_cast<double>(active) / static_cast<double>(neurons * tokens);
}

/// Of the group's activations of those heads, from the counts of each block.
inline double active_share(const Pass& p, const Heads& heads, const std::vector<int64_t>& active) {
  const auto end = active.begin() + static_cast<std::ptrdiff_t>(neuron_blocks(p, heads));
  return density(std::accumulate(active.begin(), end, int64_t{0}), heads.count * p.dims.neurons,
                 p.group.rows);
}

/// out (neurons, stride) += activations (neurons, columns) x (rows, stride).
inline void add_weight_gradient(const Pass& p, int64_t neurons, const float* activations, double density,
                                const float* x, float* out) {
  if (density < kGatherDensity) {
    p.training.gather(
        {neurons, padded(p.group.rows), p.stride, activations, p.columns, x, p.stride, out, p.stride});
  } else {
    p.kernels.multiply({neurons, p.stride, p.group.rows, activations, p.columns, 1, plain(x, p.stride), out,
                        p.stride, true});
  }
}

/// out (block's rows, stride) += the block's columns of activations (N, columns), transposed, times rows (N,
/// stride) of parameters.
inline void add_rows_product(const Pass& p, const RowBlock& block, const float* activations, double density,
                             const float* parameters, float* out) {
  const int64_t neurons = p.dims.neurons;
  if (density < kScatterDensity) {
    p.training.scatter({neurons, padded(block.count), p.stride, activations + block.begin, p.columns,
                        parameters, p.stride, out, p.stride});
  } else {
    p.kernels.multiply({block.count, p.stride, neurons, activations + block.begin, 1, p.columns,
                        plain(parameters, p.stride), out, p.stride, true});
  }
}

}  // namespace bdh::cpu
