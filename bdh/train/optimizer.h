// Optimizer: what becomes of a step's summed gradient: whether it is used, how it is scaled, AdamW, and the
// average of the weights.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "bdh/train/checkpoint.h"
#include "bdh/train/gradient_tree.h"
#include "bdh/train/options.h"
#include "bdh/train/outliers.h"
#include "kernels/training.h"

namespace bdh {

enum class StepKind : uint8_t {
  updated,
  outlier,   // skipped
  overflow,  // skipped: the gradient was too large for float16 at its loss scale
  diverged,  // loss or gradient is not finite, and no scale would help
};

/// What a step came to.
struct StepOutcome {
  StepKind kind = StepKind::updated;
  double loss = 0;  // nats per token
  double norm = 0;  // of the gradient, before clipping
  int64_t tokens = 0;
};

/// Rank 0's alone.
class Optimizer {
 public:
  /// Throws Error(invalid_argument) for a name in no_decay that no parameter has.
  Optimizer(Training& training, const TrainOptions& options, const Plane& parameters);

  /// Updates the parameters, or says why not. The gradient is summed and multiplied by the loss scale.
  StepOutcome step(const RunState& state, const GradientNode& sum, double rate, Plane& parameters);

  /// Null where there is none.
  const Plane* average() const { return average_.get(); }
  /// Moments, average, outliers.
  void save(Checkpoint& checkpoint) const;
  /// An average that the checkpoint lacks starts from the parameters.
  void restore(const Checkpoint& checkpoint, const Plane& parameters);

 private:
  StepKind kind_of(const RunState& state, const StepOutcome& outcome);

  Training& training_;
  TrainOptions options_;
  AdamWStep adamw_;
  std::unique_ptr<Plane> exp_avg_, exp_avg_sq_, average_;
  Outliers outliers_;
};

/// The loss scale that float16 starts with, 1 for the others.
double first_loss_scale(DType dtype);

/// The state after a step; the same on all ranks.
void advance(RunState& state, const StepOutcome& outcome, const TrainOptions& options);

}  // namespace bdh
