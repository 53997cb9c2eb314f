// How the neurons are divided into units of work. The division depends on the model alone, never on the
// number of threads: partial sums are made tile by tile and added in the order of the tiles, so that
// results do not depend on it either.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/backend.h"

namespace bdh::cpu {

/// Most neurons in a tile. At D 256 a tile's rows of one matrix take 512 KB in float32: they fit the second
/// cache.
constexpr int64_t kTileNeurons = 512;

struct NeuronTile {
  int64_t head;
  int64_t begin;  // first neuron within the head
  int64_t count;  // even
  int64_t row;    // first row in neuron-major matrices: head * N + begin
};

struct NeuronTiles {
  int64_t neurons;
  int64_t per_head;
  int64_t count;

  explicit NeuronTiles(const Dimensions& dims)
      : neurons(dims.neurons),
        per_head((dims.neurons + kTileNeurons - 1) / kTileNeurons),
        count(dims.heads * per_head) {}

  /// Where a row of neuron-major matrices stands among tiles of kTileNeurons each.
  int64_t place(int64_t row) const {
    const int64_t neuron = row % neurons;
    return (row / neurons * per_head + neuron / kTileNeurons) * kTileNeurons + neuron % kTileNeurons;
  }

  NeuronTile operator[](int64_t i) const {
    const int64_t head = i / per_head, begin = i % per_head * kTileNeurons;
    return {head, begin, std::min(kTileNeurons, neurons - begin), head * neurons + begin};
  }
};

}  // namespace bdh::cpu
