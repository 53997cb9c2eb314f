// Trainer: what a step does, what is due after it, and how a run ends.
#include "bdh/train/trainer.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <set>

#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"
#include "tests/support/training_runs.h"

using namespace bdh;
using namespace bdh::test;

namespace {

namespace fs = std::filesystem;

struct Ended {
  TrainResult result;
  RunLog log;
  Checkpoint end;
};

Ended run(const RunSetup& setup) {
  Ended ended;
  const auto trainer = setup.make();
  ended.result = trainer->run(ended.log.callbacks());
  ended.end = trainer->checkpoint();
  return ended;
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") names.insert(entry.path().stem().string());
  return names;
}

// As another order has it, but for one step, whose tokens have nothing to do with the text.
class SpoiledOrder : public BatchOrder {
 public:
  SpoiledOrder(std::unique_ptr<BatchOrder> order, int64_t step) : order_(std::move(order)), step_(step) {}
  BatchTokens batch(int64_t step, int64_t micro_batch) const override {
    BatchTokens batch = order_->batch(step, micro_batch);
    for (size_t i = 0; step == step_ && i < batch.targets.size(); ++i)
      batch.targets[i] = static_cast<int32_t>((i * i + 11) % 19);
    return batch;
  }
  int64_t steps_per_epoch() const override { return order_->steps_per_epoch(); }
  int64_t steps() const override { return order_->steps(); }
  std::string hash() const override { return order_->hash(); }

 private:
  std::unique_ptr<BatchOrder> order_;
  int64_t step_;
};

// A trained model goes on slowly, and step 41 is unlike the others.
RunSetup with_outlier() {
  RunSetup setup;
  setup.options.steps = 80;
  setup.options.schedule.rate = 0.01;
  setup.weights = run(setup).end.weights;
  setup.options.steps = 60;
  setup.options.schedule.rate = 1e-6;
  setup.order = [order = setup.order](const RunSetup& self) {
    return std::make_unique<SpoiledOrder>(order(self), 40);
  };
  return setup;
}

// The norm that the first step's gradient has, and its loss.
StepMetrics first_step(const RunSetup& setup) { return run(setup).log.steps.front(); }

}  // namespace

TEST_CASE("a run learns, and tells every step") {
  RunSetup setup;
  setup.options.steps = 80;
  setup.options.schedule = {.shape = ScheduleShape::linear, .rate = 0.02, .warmup = 5};
  const Ended ended = run(setup);
  CHECK(ended.result.reason == StopReason::done);
  CHECK(ended.result.step == 80);
  CHECK(ended.result.tokens == 80 * 3 * 2 * 8);
  REQUIRE(ended.log.steps.size() == 80);
  CHECK(ended.log.steps.front().loss == doctest::Approx(std::log(19)).epsilon(0.05));
  CHECK(ended.log.steps.back().loss < 0.7 * ended.log.steps.front().loss);
  for (int64_t i = 0; i < 80; ++i) {
    const StepMetrics& step = ended.log.steps[static_cast<size_t>(i)];
    CHECK(step.step == i + 1);
    CHECK(step.tokens == (i + 1) * 48);
    CHECK(step.epoch == (i + 1) / 4);
    CHECK(step.rate == rate_at(setup.options.schedule, i, 80));
    CHECK(step.tokens_per_second > 0);
    CHECK(step.valid_loss.has_value() == ((i + 1) % 4 == 0));
    CHECK_FALSE(step.skipped);
  }
  CHECK(ended.result.valid_loss == ended.log.steps.back().valid_loss);
  CHECK(ended.end.state.history.as_array().size() == 20);
}

TEST_CASE("the gradient is the mean over all tokens of a step, however it is cut into micro-batches") {
  RunSetup one, many;
  one.options.accumulate = 1, one.options.batch = 6;
  many.options.accumulate = 6, many.options.batch = 1;
  const StepMetrics a = first_step(one), b = first_step(many);
  CHECK(a.loss == doctest::Approx(b.loss).epsilon(1e-6));
  CHECK(a.gradient_norm == doctest::Approx(b.gradient_norm).epsilon(1e-5));
}

TEST_CASE("the norm that is told is the gradient's before clipping") {
  RunSetup setup;
  const StepMetrics free = first_step(setup);
  setup.options.clip = free.gradient_norm / 3;
  CHECK(first_step(setup).gradient_norm == free.gradient_norm);
  CHECK_FALSE(same_bits(run(setup).end.exp_avg, run(RunSetup()).end.exp_avg));
}

TEST_CASE("another seed drops other neurons, and dropout changes from step to step") {
  RunSetup setup;
  setup.options.dropout = 0.5;
  setup.options.schedule.rate = 0;
  setup.text.assign(200, 3);  // every micro-batch is the same
  const Ended ended = run(setup);
  CHECK(ended.log.steps[0].gradient_norm != ended.log.steps[1].gradient_norm);
  CHECK(ended.log.steps[3].valid_loss == ended.log.steps[7].valid_loss);  // and is off there
  setup.options.dropout = 0;
  const Ended without = run(setup);
  CHECK(without.log.steps[0].gradient_norm == without.log.steps[1].gradient_norm);
}

TEST_CASE("a run may have more sequences of a given size than its order has steps") {
  RunSetup setup;
  const TemporaryDirectory folder;
  setup.options.steps = 1000;
  class Short : public SpoiledOrder {
   public:
    using SpoiledOrder::SpoiledOrder;
    int64_t steps() const override { return 5; }
  };
  setup.order = [order = setup.order](const RunSetup& self) {
    return std::make_unique<Short>(order(self), -1);
  };
  const Ended ended = run(setup);
  CHECK(ended.result.step == 5);
  CHECK(ended.result.valid_loss.has_value());
}

TEST_CASE("checkpoints get the names that are due, and the best") {
  const TemporaryDirectory folder;
  RunSetup setup;
  setup.checkpoints = folder.path();
  setup.options.schedule.rate = 0.02;
  setup.options.checkpoint_every = 5;
  setup.options.checkpoint_epochs = 2;
  setup.options.save_total_limit = 0;
  const Ended ended = run(setup);
  CHECK(names_in(folder.path()) == std::set<std::string>{"checkpoint_step_5", "checkpoint_step_10",
                                                         "checkpoint_epoch_2", "checkpoint_best_valid_loss",
                                                         "checkpoint_latest"});
  CHECK(same_end(read_checkpoint(folder / "checkpoint_latest.safetensors"), ended.end));
  const RunState best = read_run_state(folder / "checkpoint_best_valid_loss.safetensors");
  CHECK(best.step == ended.result.best_step);
  CHECK(best.best == ended.result.best);
  CHECK(read_run_state(folder / "checkpoint_epoch_2.safetensors").step == 8);
  CHECK(ended.log.warnings.empty());
}

TEST_CASE("checkpoint_latest may be written more often than the others") {
  const TemporaryDirectory folder;
  RunSetup setup;
  setup.checkpoints = folder.path();
  setup.validation.clear();
  setup.options.latest_every = 3;
  RunLog log;
  TrainerCallbacks callbacks = log.callbacks();
  std::vector<int64_t> latest;
  callbacks.step = [&](const StepMetrics&) {
    const auto file = folder / "checkpoint_latest.safetensors";
    latest.push_back(fs::exists(file) ? read_run_state(file).step : 0);
  };
  setup.make()->run(callbacks);
  CHECK(std::is_sorted(latest.begin(), latest.end()));
  CHECK(latest[11] >= 6);
  CHECK(names_in(folder.path()) == std::set<std::string>{"checkpoint_latest"});
}

TEST_CASE("patience ends a run whose metric gets no better") {
  RunSetup setup;
  setup.options.steps = 40;
  setup.options.schedule.rate = 0.005;
  setup.options.greater_is_better = true;  // of a loss that falls
  setup.options.patience = 3;
  const Ended ended = run(setup);
  CHECK(ended.result.reason == StopReason::patience);
  CHECK(ended.result.step == 16);
  CHECK(ended.result.best_step == 4);
  CHECK(ended.end.state.stale_validations == 3);
  const auto again = setup.make();
  again->resume(ended.end, false, nullptr);
  CHECK(again->run({}).reason == StopReason::patience);
  setup.options.greater_is_better = false;
  CHECK(run(setup).result.reason == StopReason::done);
}

TEST_CASE("patience with nothing to judge by is refused") {
  RunSetup setup;
  setup.options.patience = 2;
  setup.validation.clear();
  CHECK(thrown_by([&] { setup.make(); }).says("patience: there is no text to validate on"));
  setup.options.metric = "loss";
  CHECK(run(setup).end.state.best.has_value());
}

TEST_CASE("the average is validated beside the weights and may be the metric") {
  RunSetup setup;
  setup.options.ema = 0.5;
  setup.options.metric = "ema_valid_loss";
  const Ended ended = run(setup);
  CHECK(ended.result.ema_valid_loss.has_value());
  CHECK(ended.result.ema_valid_loss != ended.result.valid_loss);
  CHECK(ended.end.state.ema_step == 12);
  double best = std::numeric_limits<double>::infinity();
  for (const StepMetrics& step : ended.log.steps) best = std::min(best, step.ema_valid_loss.value_or(best));
  CHECK(ended.result.best == best);
  CHECK_FALSE(ended.end.ema.empty());
  CHECK(run(RunSetup()).end.ema.empty());
}

TEST_CASE("an outlier step is skipped when asked, and only then") {
  RunSetup setup = with_outlier();
  const Ended taken = run(setup);
  CHECK(taken.end.state.optimizer_step == 60);
  setup.options.skip_outliers = 8;
  const Ended skipping = run(setup);
  CHECK(skipping.end.state.optimizer_step == 59);
  CHECK(skipping.end.state.step == 60);
  for (const StepMetrics& step : skipping.log.steps) CHECK(step.skipped == (step.step == 41));
  CHECK(taken.log.steps[40].loss == skipping.log.steps[40].loss);
  CHECK(taken.log.steps[41].loss != skipping.log.steps[41].loss);
}

TEST_CASE("a loss that is not finite ends the run, names the last good checkpoint and writes none") {
  const TemporaryDirectory folder;
  RunSetup setup;
  setup.checkpoints = folder.path();
  setup.options.steps = 3;
  const Ended good = run(setup);
  setup.options.steps = 9;
  setup.options.checkpoint_every = 1;
  setup.options.schedule.rate = 1e39;  // more than a float32
  const auto trainer = setup.make();
  trainer->resume(good.end, false, nullptr);
  const Thrown thrown = thrown_by([&] { trainer->run({}); });
  CHECK(thrown.kind == ErrorKind::bad_file);
  CHECK(thrown.says("training diverged after step"));
  CHECK(thrown.says("the last good checkpoint is " + (folder / "checkpoint_latest.safetensors").string()));
  CHECK(thrown.says("(step 3)"));
  CHECK(same_end(read_checkpoint(folder / "checkpoint_latest.safetensors"), good.end));
}

TEST_CASE("a run that diverges before its first checkpoint says so") {
  RunSetup setup;
  const TemporaryDirectory folder;
  setup.options.schedule.rate = 1e39;
  CHECK(thrown_by([&] { run(setup); }).says("no checkpoints are kept"));
  setup.checkpoints = folder.path();
  CHECK(thrown_by([&] { run(setup); }).says("there is no checkpoint yet"));
}

TEST_CASE("a sample is made of the weights after the step") {
  RunSetup setup;
  setup.options.sample_every = 5;
  RunLog log;
  TrainerCallbacks callbacks = log.callbacks();
  std::vector<TensorMap> sampled;
  callbacks.sample = [&](const TensorMap& weights) {
    sampled.push_back(weights);
    return std::string("text");
  };
  const auto trainer = setup.make();
  trainer->run(callbacks);
  CHECK(sampled.size() == 2);
  CHECK(sampled.back().contains("attn.freqs"));
  CHECK_FALSE(same_bits(sampled.front(), sampled.back()));
  for (const StepMetrics& step : log.steps) CHECK(step.sample.has_value() == (step.step % 5 == 0));
}

TEST_CASE("a checkpoint that cannot be written is told, and training goes on; the last must be there") {
  const TemporaryDirectory folder;
  RunSetup setup;
  setup.checkpoints = folder / "checkpoints";
  setup.options.checkpoint_every = 5;
  RunLog log;
  TrainerCallbacks callbacks = log.callbacks();
  const auto spoil = [&](const StepMetrics& metrics) {
    log.steps.push_back(metrics);
    if (metrics.step != 6) return;
    fs::rename(setup.checkpoints, folder / "elsewhere");
    write_file(setup.checkpoints, "in the way");
  };
  callbacks.step = spoil;
  const Thrown thrown = thrown_by([&] { setup.make()->run(callbacks); });
  CHECK(thrown.kind == ErrorKind::io);
  CHECK(log.steps.size() == 12);
  CHECK_FALSE(log.warnings.empty());
}

TEST_CASE("a micro-batch of another size than the options say is refused") {
  RunSetup setup;
  setup.order = [order = setup.order](const RunSetup& self) {
    RunSetup other = self;
    other.options.batch = 1;
    return order(other);
  };
  CHECK(thrown_by([&] { run(setup); }).says("a micro-batch has 8 tokens, but batch 2 of block 8 makes 16"));
}

TEST_CASE("options that make no sense are refused before anything is computed") {
  RunSetup setup;
  setup.options.steps = 0;
  CHECK(thrown_by([&] { setup.make(); }).says("steps must be a positive whole number, not 0"));
  setup = {};
  setup.options.no_decay = {"nothing"};
  CHECK(thrown_by([&] { setup.make(); }).says("no parameter 'nothing'"));
  setup = {};
  setup.options.horizon = {1, 2, 3};
  CHECK(thrown_by([&] { setup.make(); }).kind == ErrorKind::invalid_argument);
}

TEST_CASE("each layer's weights may be its own, also of a single layer") {
  for (const int64_t layers : {1, 2}) {
    RunSetup setup;
    setup.config.n_layer = layers;
    setup.config.tie_layers = false;
    const Ended ended = run(setup);
    CHECK(ended.end.weights.contains("encoder.0"));
    const auto again = setup.make();
    again->resume(ended.end, false, nullptr);
    CHECK(same_end(again->checkpoint(), ended.end));
  }
}
