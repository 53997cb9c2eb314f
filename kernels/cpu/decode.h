// Decode: one token of each of several sequences, in the recurrent form; inactive neurons are skipped.
#pragma once

#include <span>
#include <vector>

#include "bdh/base/threads.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/state.h"

namespace bdh::cpu {

struct DecodeScratch {
  Buffer<float> x, attended, partial, neurons, angles, flushed, low, low_partial;
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
