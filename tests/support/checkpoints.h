// A small checkpoint of a training run, for tests.
#pragma once

#include <cstdint>

#include "bdh/train/checkpoint.h"

namespace bdh::test {

/// Of the tiny model, with moments and an average; every number depends on the step.
Checkpoint checkpoint_at(int64_t step);

/// The same state, tensors and metric.
bool same_checkpoint(const Checkpoint& a, const Checkpoint& b);

}  // namespace bdh::test
