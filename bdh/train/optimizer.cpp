// Clipping as torch.nn.utils.clip_grad_norm_, the loss scale as torch.amp.GradScaler.
#include "bdh/train/optimizer.h"

#include <algorithm>
#include <cmath>

#include "bdh/train/parameter_names.h"

namespace bdh {

namespace {

constexpr double kClipEpsilon = 1e-6;
constexpr double kFirstLossScale = 0x1p16, kLeastLossScale = 0x1p-24;
constexpr int64_t kStepsToDouble = 2000;

std::vector<double> decay_of(const Training& training, const TrainOptions& options) {
  const std::vector<std::string>& names = training.names();
  std::vector<double> decay(names.size(), options.weight_decay);
  for (const std::string& given : options.no_decay)
    for (const size_t i : find_parameters(names, given, "no_decay")) decay[i] = 0;
  return decay;
}

double clip_coefficient(double clip, double norm) {
  return clip > 0 ? std::min(1.0, clip / (norm + kClipEpsilon)) : 1.0;
}

void adjust_loss_scale(RunState& state, bool overflow) {
  state.good_steps = overflow ? 0 : state.good_steps + 1;
  if (overflow) state.loss_scale /= 2;
  if (state.good_steps < kStepsToDouble) return;
  state.loss_scale *= 2;
  state.good_steps = 0;
}

}  // namespace

Optimizer::Optimizer(Training& training, const TrainOptions& options, const Plane& parameters)
    : training_(training),
      options_(options),
      exp_avg_(training.new_plane()),
      exp_avg_sq_(training.new_plane()) {
  adamw_.beta1 = options.beta1;
  adamw_.beta2 = options.beta2;
  adamw_.epsilon = options.epsilon;
  adamw_.decay = decay_of(training, options);
  if (options.ema == 0) return;
  average_ = training.new_plane();
  training.copy(parameters, *average_);
}

StepOutcome Optimizer::step(const RunState& state, const GradientNode& sum, double rate, Plane& parameters) {
  const auto tokens = static_cast<double>(sum.loss.tokens);
  const double scale = 1 / (tokens * state.loss_scale);
  StepOutcome outcome{.loss = sum.loss.nats / tokens,
                      .norm = std::sqrt(training_.squared_norm(*sum.gradient)) * scale,
                      .tokens = sum.loss.tokens};
  outcome.kind = kind_of(state, outcome);
  if (outcome.kind != StepKind::updated) return outcome;
  adamw_.step = state.optimizer_step + 1;
  adamw_.rate = rate;
  adamw_.gradient_scale = scale * clip_coefficient(options_.clip, outcome.norm);
  training_.update(parameters, *exp_avg_, *exp_avg_sq_, *sum.gradient, adamw_);
  if (average_) training_.average(*average_, parameters, options_.ema);
  return outcome;
}

StepKind Optimizer::kind_of(const RunState& state, const StepOutcome& outcome) {
  if (!std::isfinite(outcome.loss)) return StepKind::diverged;
  if (!std::isfinite(outcome.norm)) {
    const bool can_scale = options_.dtype == DType::f16 && state.loss_scale > kLeastLossScale;
    return can_scale ? StepKind::overflow : StepKind::diverged;
  }
  if (options_.skip_outliers > 0 && outliers_.z_score(outcome.loss, outcome.norm) > options_.skip_outliers) {
    outliers_.skip();
    return StepKind::outlier;
  }
  outliers_.add(outcome.loss, outcome.norm);
  return StepKind::updated;
}

void Optimizer::save(Checkpoint& checkpoint) const {
  checkpoint.exp_avg = training_.tensors(*exp_avg_);
  checkpoint.exp_avg_sq = training_.tensors(*exp_avg_sq_);
  if (average_) checkpoint.ema = training_.tensors(*average_);
  checkpoint.state.statistics.set(kOutliers, outliers_.to_json());
}

void Optimizer::restore(const Checkpoint& checkpoint, const Plane& parameters) {
  if (checkpoint.exp_avg.empty() || checkpoint.exp_avg_sq.empty()) {
    fail(ErrorKind::invalid_argument,
         "the checkpoint has no optimizer state to go on with; start a new run from its weights");
  }
  training_.set(*exp_avg_, checkpoint.exp_avg);
  training_.set(*exp_avg_sq_, checkpoint.exp_avg_sq);
  if (average_ && !checkpoint.ema.empty()) training_.set(*average_, checkpoint.ema);
  if (average_ && checkpoint.ema.empty()) training_.copy(parameters, *average_);
  const Json* outliers = checkpoint.state.statistics.find(kOutliers);
  outliers_ = outliers ? Outliers::from_json(*outliers) : Outliers();
}

double first_loss_scale(DType dtype) { return dtype == DType::f16 ? kFirstLossScale : 1; }

void advance(RunState& state, const StepOutcome& outcome, const TrainOptions& options) {
  const bool updated = outcome.kind == StepKind::updated;
  ++state.step;
  state.optimizer_step += updated;
  state.ema_step += updated && options.ema > 0;
  state.tokens += outcome.tokens;
  if (options.dtype == DType::f16) adjust_loss_scale(state, outcome.kind == StepKind::overflow);
}

}  // namespace bdh
