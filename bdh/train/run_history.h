// What a run's state remembers of steps and validations: the last step, every validation, the best.
#pragma once

#include "bdh/train/optimizer.h"
#include "bdh/train/trainer.h"

namespace bdh {

/// Keeps what the step that was just done came to.
void remember_step(RunState& state, const StepOutcome& outcome, double rate);
/// Its validation and all else that was due after it are done, and its metrics told.
void remember_report(RunState& state);
bool is_reported(const RunState& state);
/// The step that was done last.
StepMetrics last_step_of(const RunState& state);

/// Adds a validation to the history, and judges it by the metric: the best so far, or one more in a row that
/// is not.
void remember_validation(RunState& state, const StepMetrics& metrics, const TrainOptions& options);
/// The step that was done last has been validated.
bool is_validated(const RunState& state);
/// What it came to; without losses where it was not.
StepMetrics last_validation_of(const RunState& state);

/// The metric of that name (kMetrics), where it was measured.
std::optional<double> metric_of(const StepMetrics& metrics, std::string_view name);

}  // namespace bdh
