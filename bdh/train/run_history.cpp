// Metrics as JSON in a run's state, and back.
#include "bdh/train/run_history.h"

#include <utility>

namespace bdh {

namespace {

constexpr const char* kLastStep = "last_step";
constexpr const char* kReported = "reported";

std::optional<double> number_in(const Json& object, std::string_view key) {
  const Json* found = object.find(key);
  return found && found->is_number() ? std::optional(found->as_number()) : std::nullopt;
}

void set_if(Json& object, std::string_view key, const std::optional<double>& value) {
  if (value) object.set(key, *value);
}

Json entry_of(const StepMetrics& metrics) {
  Json entry(Json::Object{});
  entry.set("step", metrics.step).set("loss", metrics.loss);
  set_if(entry, "valid_loss", metrics.valid_loss);
  set_if(entry, "valid_bits_per_byte", metrics.valid_bits_per_byte);
  set_if(entry, "ema_valid_loss", metrics.ema_valid_loss);
  return entry;
}

void judge(RunState& state, double value, bool greater_is_better) {
  const bool better = !state.best || (greater_is_better ? value > *state.best : value < *state.best);
  state.stale_validations = better ? 0 : state.stale_validations + 1;
  if (!better) return;
  state.best = value;
  state.best_step = state.step;
}

}  // namespace

void remember_step(RunState& state, const StepOutcome& outcome, double rate) {
  state.statistics.set(kLastStep, Json::Object{{"loss", outcome.loss},
                                               {"lr", rate},
                                               {"gradient_norm", outcome.norm},
                                               {"skipped", outcome.kind != StepKind::updated},
                                               {kReported, false}});
}

void remember_report(RunState& state) {
  const Json* last = state.statistics.find(kLastStep);
  if (!last) return;
  Json reported = *last;
  state.statistics.set(kLastStep, std::move(reported.set(kReported, true)));
}

bool is_reported(const RunState& state) {
  const Json* last = state.statistics.find(kLastStep);
  return !last || last->find(kReported) == nullptr || *last->find(kReported) == Json(true);
}

StepMetrics last_step_of(const RunState& state) {
  StepMetrics metrics;
  metrics.step = state.step;
  metrics.tokens = state.tokens;
  metrics.epoch = state.epoch;
  metrics.loss_scale = state.loss_scale;
  const Json* last = state.statistics.find(kLastStep);
  if (!last) return metrics;
  metrics.loss = number_in(*last, "loss").value_or(0);
  metrics.rate = number_in(*last, "lr").value_or(0);
  metrics.gradient_norm = number_in(*last, "gradient_norm").value_or(0);
  metrics.skipped = last->find("skipped") && *last->find("skipped") == Json(true);
  return metrics;
}

void remember_validation(RunState& state, const StepMetrics& metrics, const TrainOptions& options) {
  state.history.push(entry_of(metrics));
  const std::optional<double> value = metric_of(metrics, options.metric);
  if (value) judge(state, *value, options.greater_is_better);
}

bool is_validated(const RunState& state) {
  const Json::Array& history = state.history.as_array();
  return !history.empty() && number_in(history.back(), "step") == static_cast<double>(state.step);
}

StepMetrics last_validation_of(const RunState& state) {
  StepMetrics metrics = last_step_of(state);
  if (!is_validated(state)) return metrics;
  const Json& entry = state.history.as_array().back();
  metrics.valid_loss = number_in(entry, "valid_loss");
  metrics.valid_bits_per_byte = number_in(entry, "valid_bits_per_byte");
  metrics.ema_valid_loss = number_in(entry, "ema_valid_loss");
  return metrics;
}

std::optional<double> metric_of(const StepMetrics& metrics, std::string_view name) {
  if (name == "valid_loss") return metrics.valid_loss;
  if (name == "valid_bits_per_byte") return metrics.valid_bits_per_byte;
  if (name == "ema_valid_loss") return metrics.ema_valid_loss;
  return metrics.loss;
}

}  // namespace bdh
