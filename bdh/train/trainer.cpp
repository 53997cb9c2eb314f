// The training loop: a step, what is due after it, and where a run stands in between.
#include "bdh/train/trainer.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/sha256.h"
#include "bdh/model/quantization.h"
#include "bdh/model/weights.h"
#include "bdh/train/carried_states.h"
#include "bdh/train/exchange.h"
#include "bdh/train/gradient_tree.h"
#include "bdh/train/lora_training.h"
#include "bdh/train/optimizer.h"
#include "bdh/train/resume.h"
#include "bdh/train/run_history.h"
#include "bdh/train/run_start.h"
#include "bdh/train/validation.h"

namespace bdh {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

bool is_multiple(int64_t step, int64_t every) { return every > 0 && step % every == 0; }

}  // namespace

struct Trainer::Run {
  Run(std::shared_ptr<Backend> backend_, TrainOptions options_, Inputs inputs_, Ranks& ranks)
      : backend(std::move(backend_)),
        options(std::move(options_)),
        inputs(std::move(inputs_)),
        exchange(ranks),
        ranks_count(ranks.size()),
        validation(inputs.validation, options.block, options.valid_tokens, options.carry_state) {}

  // ---- before the loop ----

  void check() {
    if (options.accumulate % ranks_count != 0) {
      fail(ErrorKind::invalid_argument, ranks_count, " ranks cannot share the ", options.accumulate,
           " micro-batches of a step evenly; set accumulate to a multiple of ", ranks_count);
    }
    if (options.lora.on == inputs.base.empty()) {
      fail(ErrorKind::invalid_argument,
           options.lora.on ? "lora: an adapter needs a model that it is trained for; give one (from)"
                           : "there is a base model for an adapter, but lora is not set");
    }
    if (options.patience > 0 && validation.empty() && options.metric != "loss") {
      fail(ErrorKind::invalid_argument, "patience: there is no text to validate on, and so no ",
           options.metric, "; give one, or set metric to loss");
    }
  }

  void begin(const TensorMap& weights) {
    optimizer.reset();
    tree.reset();
    carried.reset();
    freqs = frequencies_of(options.lora.on ? inputs.base : weights, inputs.config);
    training =
        backend->new_training(inputs.config.dimensions(), freqs, training_options(options, inputs.config));
    if (options.lora.on)
      training = new_lora_training(std::move(training), inputs.base, inputs.config, options.lora);
    parameters = training->new_plane();
    training->set(*parameters, weights);
    tree.emplace(*training);
    if (exchange.first()) optimizer.emplace(*training, options, *parameters);
    const auto share = exchange.share_of(options.accumulate);
    if (options.carry_state) carried.emplace(*training, share, options.batch);
  }

  void resume(const Checkpoint& checkpoint, bool allow_changed_data, std::vector<std::string>* warnings) {
    const RunState now = first_state(options, inputs);
    const RunChanges changes = compare_runs(checkpoint.state, now, allow_changed_data);
    if (warnings) warnings->insert(warnings->end(), changes.warnings.begin(), changes.warnings.end());
    begin(checkpoint.weights);
    if (optimizer) optimizer->restore(checkpoint, *parameters);
    if (carried && !checkpoint.carried.empty() && !changes.data)
      carried->restore(checkpoint.carried, checkpoint.state.carried_position);
    state = continued_state(checkpoint.state, now, changes);
    state.epoch = state.step / inputs.order->steps_per_epoch();
    if (checkpoint.ema.empty()) state.ema_step = 0;
    saved = true;
  }

  // Ranks that were started differently would train another model each.
  void require_equal_ranks() {
    const std::string hash = sha256_of(concat(state.step, state.options.dump(), state.config.dump(),
                                              state.order_hash, state.validation_hash, state.base_hash));
    std::array<char, 64> digest{}, theirs{};
    std::copy_n(hash.begin(), digest.size(), digest.begin());
    theirs = digest;
    exchange.share(theirs);
    exchange.together([&] {
      if (theirs != digest)
        fail(ErrorKind::invalid_argument, "it has other options, data or checkpoint than rank 0");
      return true;
    });
  }

  // ---- the loop ----

  int64_t last_step() const { return std::min(options.steps, inputs.order->steps()); }

  bool asked_to_stop() const { return callbacks.stop && callbacks.stop(); }

  void warn(const std::vector<std::string>& lines) const {
    for (const std::string& line : lines)
      if (callbacks.warn) callbacks.warn(line);
  }

  TrainResult run() {
    try {
      return train();
    } catch (const Error& error) {
      if (exchange.alone() || diverged || error.kind() == ErrorKind::cancelled) throw;
      fail(error.kind(), error.what(), "; ", last_good());
    }
  }

  TrainResult train() {
    begun = Clock::now();
    seconds_before = state.seconds;
    require_equal_ranks();
    exchange.connect(*training);
    std::optional<StepMetrics> done;  // a step that is done, but not yet what is due after it
    const bool at_end = state.step >= last_step();
    if (!is_reported(state) || (at_end && validation_is_due())) done = last_step_of(state);
    for (;;) {
      if (done && validation_is_due() && !validate(*done)) return finish(StopReason::asked);
      if (done) report(*done);
      if (options.patience > 0 && state.stale_validations >= options.patience)
        return finish(StopReason::patience);
      if (state.step >= last_step()) return finish(StopReason::done);
      done = step();
      if (!done) return finish(StopReason::asked);
    }
  }

  // Nothing where a stop was asked for: then nothing has happened.
  std::optional<StepMetrics> step() {
    const Clock::time_point begin = Clock::now();
    if (!exchange.together_or_stop([this] { return add_gradients(); })) {
      tree->clear();
      if (carried) carried->roll_back();
      return {};
    }
    const double rate = rate_at(options.schedule, state.step, last_step());
    const StepOutcome outcome = update(rate);
    if (outcome.kind == StepKind::diverged) fail_diverged(outcome);
    if (carried) carried->keep();
    advance(state, outcome, options);
    state.epoch = state.step / inputs.order->steps_per_epoch();
    saved = false;
    remember_step(state, outcome, rate);
    StepMetrics metrics = last_step_of(state);
    metrics.tokens_per_second = static_cast<double>(outcome.tokens) / std::max(seconds_since(begin), 1e-9);
    return metrics;
  }

  // Of this rank's micro-batches. False where a stop was asked for.
  bool add_gradients() {
    tree->clear();
    const auto [begin, end] = exchange.share_of(options.accumulate);
    for (int64_t i = begin; i < end; ++i) {
      if (asked_to_stop()) return false;
      add_gradient(i);
    }
    return true;
  }

  void add_gradient(int64_t number) {
    const BatchTokens batch = inputs.order->batch(state.step, number);
    const auto size = static_cast<size_t>(options.batch * options.block);
    if (batch.inputs.size() != size || batch.targets.size() != size) {
      fail(ErrorKind::invalid_argument, "a micro-batch has ", batch.inputs.size(), " tokens, but batch ",
           options.batch, " of block ", options.block, " makes ", size);
    }
    const MicroBatch micro_batch{
        .sequences = options.batch,
        .tokens = options.block,
        .inputs = batch.inputs,
        .targets = batch.targets,
        .number = static_cast<uint64_t>(state.step) * static_cast<uint64_t>(options.accumulate) +
                  static_cast<uint64_t>(number),
        .loss_scale = static_cast<float>(state.loss_scale),
        .stop = callbacks.stop ? &callbacks.stop : nullptr};
    GradientNode node{0, number, {}, tree->take_plane()};
    CarriedState* const remembered = carried ? carried->begin(number, batch.continues) : nullptr;
    node.loss = training->gradient(*parameters, micro_batch, *node.gradient, remembered);
    tree->add(std::move(node));
  }

  // Rank 0 sums and updates; the others get the parameters.
  StepOutcome update(double rate) {
    exchange.gather(*tree, *training);
    StepOutcome outcome;
    exchange.together([&] {
      if (!exchange.first()) return true;
      const GradientNode& sum = tree->fold();
      if (sum.loss.tokens == 0)
        fail(ErrorKind::bad_file, "step ", state.step + 1, " has no target; look at the batches");
      outcome = optimizer->step(state, sum, rate, *parameters);
      return true;
    });
    exchange.share(outcome);
    if (outcome.kind == StepKind::updated) exchange.share(*training, *parameters);
    return outcome;
  }

  // ---- validation ----

  // Of the step that was done last.
  bool validation_is_due() const {
    if (state.step == 0 || (validation.empty() && options.metric != "loss")) return false;
    if (is_validated(state)) return false;
    return is_multiple(state.step, options.valid_every) || state.step >= last_step();
  }

  // False where a stop was asked for: then nothing has happened.
  bool validate(StepMetrics& metrics) {
    if (!validation.empty()) {
      const auto loss = validation_loss(*parameters);
      if (!loss) return false;
      metrics.valid_loss = loss->nats / static_cast<double>(loss->tokens);
      if (validation.text_bytes() > 0)
        metrics.valid_bits_per_byte = loss->nats / std::numbers::ln2 / validation.text_bytes();
      if (options.ema > 0 && !validate_average(metrics)) return false;
    }
    if (!std::isfinite(metrics.valid_loss.value_or(0)))
      fail_diverged({.kind = StepKind::diverged, .loss = *metrics.valid_loss});
    remember_validation(state, metrics, options);
    saved = false;
    return true;
  }

  bool validate_average(StepMetrics& metrics) {
    std::unique_ptr<Plane> shared;
    if (!exchange.alone()) {
      shared = training->new_plane();
      if (optimizer) training->copy(*optimizer->average(), *shared);
      exchange.share(*training, *shared);
    }
    const auto loss = validation_loss(shared ? *shared : *optimizer->average());
    if (!loss) return false;
    metrics.ema_valid_loss = loss->nats / static_cast<double>(loss->tokens);
    return true;
  }

  std::optional<LossSum> validation_loss(const Plane& plane) {
    const int64_t total = validation.tokens();
    const auto go_on = [&](int64_t done) {
      if (exchange.first() && callbacks.validating)
        callbacks.validating(options.carry_state ? done : std::min(done * ranks_count, total), total);
      return !asked_to_stop();
    };
    return validation.loss(*training, plane, exchange, go_on, callbacks.stop);
  }

  // ---- what is told and kept ----

  // Metrics go first: a run that is killed before its checkpoint is there does the step again.
  void report(StepMetrics& metrics) {
    exchange.together([&] {
      if (!exchange.first()) return true;
      if (callbacks.sample && is_multiple(state.step, options.sample_every))
        metrics.sample = callbacks.sample(merged_tensors());
      if (callbacks.step) callbacks.step(metrics);
      return true;
    });
    remember_report(state);
    const CheckpointNames names = names_due(metrics);
    const int64_t latest = options.latest_every;
    if (names.step || names.epoch || !names.best.empty() || is_multiple(state.step, latest)) save(names);
  }

  CheckpointNames names_due(const StepMetrics& metrics) const {
    CheckpointNames names;
    names.step = is_multiple(state.step, options.checkpoint_every);
    const bool epoch_ended = state.epoch > (state.step - 1) / inputs.order->steps_per_epoch();
    names.epoch = epoch_ended && is_multiple(state.epoch, options.checkpoint_epochs);
    if (is_validated(state)) names.metric = metric_of(metrics, options.metric);
    if (names.metric && state.best_step == state.step) names.best = options.metric;
    return names;
  }

  bool keeps_checkpoints() const { return !inputs.checkpoints.empty(); }

  CheckpointManager& manager() {
    if (!manager_)
      manager_.emplace(inputs.checkpoints, CheckpointLimits{options.save_total_limit, options.save_top,
                                                            options.greater_is_better});
    return *manager_;
  }

  void save(const CheckpointNames& names) {
    if (!keeps_checkpoints()) return;
    if (state.step >= last_step()) training->trim();  // a checkpoint takes its place
    require_finite_parameters();
    Checkpoint now = checkpoint();
    exchange.together([&] {
      if (!exchange.first()) return true;
      warn(manager().wait());
      manager().save(std::move(now), names);
      return true;
    });
    saved = true;
  }

  // A finite gradient at an absurd rate makes weights that are not.
  void require_finite_parameters() {
    double norm = training->squared_norm(*parameters);
    exchange.share(norm);
    if (!std::isfinite(norm))
      fail_diverged({.kind = StepKind::diverged, .loss = std::numeric_limits<double>::quiet_NaN()});
  }

  TensorMap merged_tensors() const {
    if (!options.lora.on) return trained_tensors();
    return merged_weights(inputs.base, trained_tensors(), options.lora.scale());
  }

  TensorMap trained_tensors() const {
    TensorMap weights = training->tensors(*parameters);
    if (options.lora.on) return weights;
    Tensor buffer = freqs;
    buffer.shape = {1, 1, 1, freqs.numel()};
    buffer.strides = contiguous_strides(buffer.shape);
    weights.emplace(kFreqs, std::move(buffer));
    return weights;
  }

  Checkpoint checkpoint() {
    Checkpoint now;
    now.state = state;
    if (begun) now.state.seconds = seconds_before + seconds_since(*begun);
    if (carried && carried->position() > 0) {
      now.state.carried_position = carried->position();
      const std::vector<Tensor> states = exchange.gather(carried->save());
      for (size_t i = 0; i < states.size(); ++i) now.carried.emplace(std::to_string(i), states[i]);
    }
    if (optimizer) optimizer->save(now);
    now.weights = trained_tensors();
    return now;
  }

  TrainResult finish(StopReason reason) {
    if (!saved) save({});
    if (begun) state.seconds = seconds_before + seconds_since(*begun);
    begun.reset();
    require_written();
    TrainResult result;
    result.reason = reason;
    result.step = state.step;
    result.best = state.best;
    result.best_step = state.best_step;
    result.seconds = state.seconds;
    result.tokens = state.tokens;
    result.last_loss = last_step_of(state).loss;
    const StepMetrics validated = last_validation_of(state);
    result.valid_loss = validated.valid_loss;
    result.ema_valid_loss = validated.ema_valid_loss;
    return result;
  }

  // What cannot be written while training goes on is told; the last one must be there.
  void require_written() {
    exchange.together([&] {
      const std::vector<std::string> problems = manager_ ? manager_->wait() : std::vector<std::string>();
      if (!problems.empty()) fail(ErrorKind::io, problems.back());
      return true;
    });
  }

  // ---- the end of a run that failed ----

  std::string last_good() {
    if (!keeps_checkpoints()) return "no checkpoints are kept";
    if (manager_) manager_->wait();
    const auto file = latest_checkpoint(inputs.checkpoints);
    if (!file) return "there is no checkpoint yet";
    return concat("the last good checkpoint is ", file->string(), " (step ", read_run_state(*file).step, ")");
  }

  [[noreturn]] void fail_diverged(const StepOutcome& outcome) {
    diverged = true;
    fail(ErrorKind::bad_file, "training diverged after step ", state.step, ": the loss is ", outcome.loss,
         ", the gradient's norm ", outcome.norm, "; ", last_good(),
         "; go on from there with a lower rate (lr) or with clip");
  }

  std::shared_ptr<Backend> backend;
  TrainOptions options;
  Inputs inputs;
  Exchange exchange;
  int ranks_count;
  Validation validation;
  TrainerCallbacks callbacks;

  RunState state;
  Tensor freqs;
  std::unique_ptr<Training> training;
  std::unique_ptr<Plane> parameters;
  std::optional<GradientTree> tree;
  std::optional<Optimizer> optimizer;    // rank 0's
  std::optional<CarriedStates> carried;  // of this rank's micro-batches
  std::optional<CheckpointManager> manager_;
  bool saved = true;  // where it stands now is in a checkpoint, or is the start
  bool diverged = false;
  std::optional<Clock::time_point> begun;
  double seconds_before = 0;
};

Trainer::Trainer(std::shared_ptr<Backend> backend, TrainOptions options, Inputs inputs, Ranks& ranks) {
  inputs.config.validate();
  require_floats(inputs.config, "training");
  options.dropout = options.dropout.value_or(inputs.config.dropout);
  options.validate();
  run_ = std::make_unique<Run>(std::move(backend), std::move(options), std::move(inputs), ranks);
  run_->check();
  run_->begin(std::exchange(run_->inputs.weights, {}));
  run_->state = first_state(run_->options, run_->inputs);
}

Trainer::~Trainer() = default;

void Trainer::resume(const Checkpoint& checkpoint, bool allow_changed_data,
                     std::vector<std::string>* warnings) {
  run_->resume(checkpoint, allow_changed_data, warnings);
}

TrainResult Trainer::run(const TrainerCallbacks& callbacks) {
  run_->callbacks = callbacks;
  return run_->run();
}

Checkpoint Trainer::checkpoint() const { return run_->checkpoint(); }

const RunState& Trainer::state() const { return run_->state; }

}  // namespace bdh
