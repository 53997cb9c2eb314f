// What kernels are told of a model and of the sequences they read: plain data that is passed by value, for
// host and device code.
#pragma once

#include <cstdint>

#include "kernels/backend.h"

namespace bdh::cuda {

/// A model's Dimensions as 32-bit numbers, which index faster. neurons: N, per head.
struct Sizes {
  int layers, width;
  int stride;  // elements from one row of x, S or the packed weights to the next: D, rounded up to whole
               // vectors
  int heads, neurons, vocab;

  bool operator==(const Sizes&) const = default;

  /// Rows, one for each neuron, of the packed E, Ev and decoder, and of one layer of S.
  constexpr int64_t rows() const { return int64_t{heads} * neurons; }
  constexpr int64_t state_floats() const { return layers * rows() * stride; }
};

/// What multiplies 16-bit matrices: mma.sync, by a warp (sm_80 and later), or wgmma, by a warpgroup (sm_90a).
enum class Mma : uint8_t { warp, warpgroup };

constexpr int kVector = 8;     // elements that a lane loads at once; rows are padded to a multiple
constexpr int kWidest = 8192;  // D at most: a row in float32 fits the shared memory of every supported GPU
constexpr int kMostBlocks = 65535;  // CUDA's limit of a grid's second and third dimension

constexpr int64_t rounded_up(int64_t count, int64_t multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

/// Throws Error(unsupported) for dimensions beyond what an index of the kernels holds.
Sizes sizes_of(const Dimensions& dims);

/// Bytes of shared memory of a block that has one row: the row, and a number for each warp (block_norm's
/// sums).
constexpr size_t row_shared(const Sizes& sizes, int threads) {
  return static_cast<size_t>(sizes.stride + threads / 32) * sizeof(float);
}

/// The token of one sequence that decode reads.
struct Sequence {
  float* s;  // (L, H*N, stride): its state
  int32_t token;
  int64_t position;    // of that token
  int32_t damped = 0;  // 1 with a horizon: the phase is exact, and Scales count
};

/// Of one head, where a session has a horizon h. S is kept as exp(lag / h) S, lag tokens after it was last
/// brought to the scale of its position, so that rows of inactive neurons need not decay token by token.
struct Scales {
  float readout = 1;  // exp(-lag / h): what S is kept as, times this, is S
  float update = 1;   // exp(lag / h): of what a token adds
};

/// How active one block's neurons were, for one token.
struct DecodeCounts {
  int n, pairs, g;
};

}  // namespace bdh::cuda
