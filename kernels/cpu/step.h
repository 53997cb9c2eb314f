// Reading one token of each of several sequences: the recurrent form, inactive neurons skipped.
#pragma once

#include <span>
#include <vector>

#include "bdh/base/threads.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/state.h"

namespace bdh::cpu {

struct StepScratch {
  Buffer<float> x, attended, partial, neurons;
  std::vector<LayerActivity> activity;
};

/// One token of each sequence. x receives the last layer's output: (B, stride).
struct StepBatch {
  std::span<SequenceState* const> states;
  std::span<const int32_t> tokens;
  float* x;
};

void read_step(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool, StepScratch& scratch,
               const StepBatch& batch, std::span<LayerActivity> activity);

}  // namespace bdh::cpu
