// What a run begins with: its state at step 0, and what its backend is asked for.
#pragma once

#include "bdh/train/trainer.h"
#include "kernels/training.h"

namespace bdh {

/// The frequencies that weights have, else the formula's: (N) float32.
Tensor frequencies_of(const TensorMap& weights, const Config& config);

/// options.dropout is given.
TrainingOptions training_options(const TrainOptions& options, const Config& config);

RunState first_state(const TrainOptions& options, const Trainer::Inputs& inputs);

}  // namespace bdh
