// Decode: one token of each of several sequences, in the recurrent form; inactive neurons are skipped.
#pragma once

#include <span>
#include <vector>

#include "bdh/base/threads.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/state.h"
#include "kernels/cpu/tiles.h"

namespace bdh::cpu {

constexpr int64_t kMostGated = 16;  // sequences whose v are made together
// Sequences a multiple of 4 KB apart would drive out one another from the first cache.
constexpr int64_t kVStride = kTileNeurons + kPadding;

/// A thread's: a tile's active neurons of several sequences, and v of each neuron that is active.
struct GateScratch {
  int32_t index[kMostGated][kTileNeurons];
  float n[kMostGated][kTileNeurons];
  float v[kMostGated][kVStride];
  DotPair pairs[kMostGated * kTileNeurons];
  int64_t active[kMostGated];
};

struct DecodeScratch {
  Buffer<float> x, attended, partial, neurons, angles, flushed, low, low_partial;
  Buffer<GateScratch> gates;
  std::vector<LayerActivity> activity;
  std::vector<uint8_t> known;
  std::vector<std::vector<FiredNeuron>> fired;
};

/// Reads the one token of each segment, or where they are provisional all of them, each as if alone. Returns
/// the last layer's output x (B, stride), in the scratch memory.
const float* decode(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool,
                    DecodeScratch& scratch, std::span<const Segment> segments,
                    std::span<LayerActivity> activity, bool provisional);

}  // namespace bdh::cpu
