// A run that is stopped anywhere, or killed after any checkpoint, and goes on, ends with the bits of one that
// was not; and what is refused to go on.
#include "bdh/train/resume.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>

#include "tests/support/backends.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"
#include "tests/support/training_runs.h"

using namespace bdh;
using namespace bdh::test;

namespace {

struct Ended {
  Checkpoint end;
  std::vector<StepMetrics> steps;
  int64_t questions = 0;
};

Ended run_whole(const RunSetup& setup) {
  RunLog log;
  const auto trainer = setup.make();
  CHECK(trainer->run(log.callbacks()).reason == StopReason::done);
  return {trainer->checkpoint(), log.steps, log.questions};
}

// Goes on from a checkpoint, or begins where there is none.
Ended run_rest(const RunSetup& setup, const std::optional<Checkpoint>& checkpoint) {
  RunLog log;
  const auto trainer = setup.make();
  std::vector<std::string> warnings;
  if (checkpoint) trainer->resume(*checkpoint, false, &warnings);
  CHECK(warnings.empty());
  CHECK(trainer->run(log.callbacks()).reason == StopReason::done);
  return {trainer->checkpoint(), log.steps, 0};
}

bool same_metrics(const std::vector<StepMetrics>& a, const std::vector<StepMetrics>& b) {
  const auto same = [](const StepMetrics& x, const StepMetrics& y) {
    return x.step == y.step && x.loss == y.loss && x.rate == y.rate && x.gradient_norm == y.gradient_norm &&
           x.tokens == y.tokens && x.epoch == y.epoch && x.skipped == y.skipped &&
           x.valid_loss == y.valid_loss && x.valid_bits_per_byte == y.valid_bits_per_byte &&
           x.ema_valid_loss == y.ema_valid_loss;
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

// Stops at the question of that number whether to; `folder`: through files there, else in memory.
bool same_after_stop(RunSetup setup, const Ended& whole, int64_t question,
                     const std::filesystem::path& folder) {
  setup.checkpoints = folder;
  RunLog log;
  log.stop_at = question;
  const auto trainer = setup.make();
  if (trainer->run(log.callbacks()).reason != StopReason::asked) return false;
  std::optional<Checkpoint> checkpoint = trainer->checkpoint();
  if (!folder.empty()) {
    const auto file = latest_checkpoint(folder);
    checkpoint = file ? std::optional(read_checkpoint(*file)) : std::nullopt;
  }
  const Ended rest = run_rest(setup, checkpoint);
  log.steps.insert(log.steps.end(), rest.steps.begin(), rest.steps.end());
  return same_end(rest.end, whole.end) && same_metrics(log.steps, whole.steps);
}

void check_all_stops(const RunSetup& setup) {
  const Ended whole = run_whole(setup);
  REQUIRE(whole.questions > setup.options.steps * setup.options.accumulate);
  for (int64_t question = 0; question < whole.questions; question += unless_slow(1, 3)) {
    CAPTURE(question);
    CHECK(same_after_stop(setup, whole, question, {}));
  }
  for (const int64_t question : {int64_t{0}, whole.questions / 2, whole.questions - 1}) {
    CAPTURE(question);
    const TemporaryDirectory folder;
    CHECK(same_after_stop(setup, whole, question, folder.path()));
  }
}

// As if it had been killed while the step after was computed.
void check_all_kills(RunSetup setup) {
  const TemporaryDirectory folder;
  setup.checkpoints = folder.path();
  setup.options.checkpoint_every = 1;
  setup.options.save_total_limit = 0;
  const Ended whole = run_whole(setup);
  for (int64_t step = 1; step <= setup.options.steps; ++step) {
    CAPTURE(step);
    RunSetup rest = setup;
    rest.checkpoints.clear();
    const auto trainer = rest.make();
    const auto file = folder / ("checkpoint_step_" + std::to_string(step) + ".safetensors");
    trainer->resume(read_checkpoint(file), false, nullptr);
    CHECK(trainer->state().step == step);
    trainer->run({});
    CHECK(same_end(trainer->checkpoint(), whole.end));
  }
}

RunSetup with_everything() {
  RunSetup setup;
  setup.options.dropout = 0.3;
  setup.options.ema = 0.9;
  setup.options.clip = 0.5;
  setup.options.skip_outliers = 3;
  setup.options.schedule = {.shape = ScheduleShape::cosine, .rate = 0.02, .final_rate = 0.001, .warmup = 3};
  return setup;
}

RunSetup with_carried_state() {
  RunSetup setup = with_everything();
  setup.options.carry_state = true;
  setup.options.horizon = {16};
  return setup;
}

RunSetup with_adapter(RunSetup setup) {
  setup.options.lora = {.on = true, .rank = 2, .alpha = 8, .targets = {"encoder", "decoder", "embed"}};
  return setup;
}

// A run at step 6 of 12, and one that would go on from it with other options.
struct Other {
  RunSetup before, after;
  Checkpoint checkpoint;
  std::vector<std::string> warnings;

  Other() {
    before.options.steps = 6;
    const auto trainer = before.make();
    trainer->run({});
    checkpoint = trainer->checkpoint();
    after = before;
  }
  Thrown resume(bool allow_changed_data = false) {
    return thrown_by([&] { after.make()->resume(checkpoint, allow_changed_data, &warnings); });
  }
  bool warns(std::string_view text) const {
    return std::any_of(warnings.begin(), warnings.end(),
                       [&](const std::string& line) { return line.find(text) != line.npos; });
  }
};

}  // namespace

TEST_CASE("a run stopped anywhere, in the middle of a micro-batch too, goes on to the same bits") {
  check_all_stops(RunSetup());
  check_all_stops(with_everything());
}

TEST_CASE("so does one that carries its state over") {
  check_all_stops(with_carried_state());
  RunSetup single = with_carried_state();
  single.options.accumulate = 1;
  check_all_stops(single);
}

TEST_CASE("so does one that trains an adapter") {
  check_all_stops(with_adapter(with_everything()));
  check_all_kills(with_adapter(with_carried_state()));
}

TEST_CASE("an adapter goes on with its own base, rank and targets alone") {
  const auto refused = [](auto change) {
    RunSetup setup = with_adapter(RunSetup());
    const Checkpoint start = setup.make()->checkpoint();
    change(setup);
    return thrown_by([&] { setup.make()->resume(start, true, nullptr); });
  };
  CHECK(
      refused([](RunSetup& s) { s.base = initial_weights(s.config, 6); }).says("the adapter's base model ("));
  CHECK(refused([](RunSetup& s) { s.options.lora.rank = 3; }).says("lora_rank was 2, is 3; give the old"));
  CHECK(refused([](RunSetup& s) { s.options.lora.targets = {"lm_head"}; }).says("lora_targets was ["));
  CHECK(refused([](RunSetup& s) { s.options.lora = {}; }).says("lora was true, is false"));
  CHECK(refused([](RunSetup&) {}).message.empty());
}

TEST_CASE("a run killed after any step goes on to the same bits, through the ends of epochs") {
  RunSetup setup = with_everything();
  setup.options.steps = 14;  // 4 steps to an epoch
  CHECK(setup.order(setup)->steps_per_epoch() == 4);
  check_all_kills(setup);
  check_all_kills(with_carried_state());
}

TEST_CASE("a run in 16 bits goes on to the same bits") {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    RunSetup setup;
    setup.options.dtype = dtype;
    check_all_kills(setup);
  }
}

TEST_CASE("a run that has ended goes on when it gets more steps") {
  Other run;
  run.after.options.steps = 9;
  const auto trainer = run.after.make();
  trainer->resume(run.checkpoint, false, &run.warnings);
  CHECK(run.warns("options differ from the checkpoint's: steps was 6, is 9"));
  RunLog log;
  CHECK(trainer->run(log.callbacks()).step == 9);
  CHECK(log.steps.size() == 3);
  CHECK(log.steps.front().step == 7);
}

TEST_CASE("a run that has ended and gets no more steps does nothing") {
  Other run;
  const auto trainer = run.after.make();
  trainer->resume(run.checkpoint, false, &run.warnings);
  RunLog log;
  const TrainResult result = trainer->run(log.callbacks());
  CHECK(result.reason == StopReason::done);
  CHECK(log.steps.empty());
  CHECK(result.valid_loss.has_value());
  CHECK(same_end(trainer->checkpoint(), run.checkpoint));
}

TEST_CASE("no step is told twice, whatever is due by the new options, but the end is validated") {
  Other run;
  run.before.options.steps = 12;
  RunLog log;
  TrainerCallbacks until_six = log.callbacks();
  until_six.stop = [&log] { return log.steps.size() == 6; };
  const auto stopped = run.before.make();
  REQUIRE(stopped->run(until_six).step == 6);
  run.checkpoint = stopped->checkpoint();
  run.after = run.before;
  run.after.options.valid_every = 3;
  RunLog rest;
  auto trainer = run.after.make();
  trainer->resume(run.checkpoint, false, nullptr);
  trainer->run(rest.callbacks());
  REQUIRE(rest.steps.size() == 6);
  CHECK(rest.steps.front().step == 7);

  run.after.options.steps = 6;
  trainer = run.after.make();
  trainer->resume(run.checkpoint, false, nullptr);
  CHECK(trainer->run({}).valid_loss.has_value());
}

TEST_CASE("what decides a run's function is refused to change, by name") {
  const auto refused = [](auto change) {
    Other run;
    change(run.after);
    const Thrown thrown = run.resume(true);
    CHECK(thrown.kind == ErrorKind::invalid_argument);
    return thrown.message;
  };
  const auto says = [](const std::string& text, std::string_view part) {
    return text.find(part) != text.npos;
  };
  CHECK(says(refused([](RunSetup& s) { s.options.batch = 3; }), "batch was 2, is 3"));
  CHECK(says(refused([](RunSetup& s) { s.options.block = 4; }), "block was 8, is 4"));
  CHECK(says(refused([](RunSetup& s) { s.options.accumulate = 1; }), "accumulate was 3, is 1"));
  CHECK(says(refused([](RunSetup& s) { s.options.seed = 6; }), "seed was 5, is 6"));
  CHECK(says(refused([](RunSetup& s) { s.options.dropout = 0.5; }), "dropout was 0.0, is 0.5"));
  CHECK(says(refused([](RunSetup& s) { s.config.dropout = 0.25; }), "dropout was 0.0, is 0.25"));
  CHECK(says(refused([](RunSetup& s) { s.options.dtype = DType::bf16; }), "dtype was \"float32\""));
  CHECK(says(refused([](RunSetup& s) { s.options.horizon = {9}; }), "horizon was null, is 9"));
  CHECK(says(refused([](RunSetup& s) { s.options.carry_state = true; }), "carry_state was false, is true"));
  CHECK(says(refused([](RunSetup& s) { s.config.n_layer = 2; }), "n_layer was 1, is 2"));
  CHECK(says(refused([](RunSetup& s) {
               s.config.n_embd = 16;
               s.options.batch = 1;
             }),
             "n_embd was 8, is 16; batch was 2, is 1; give the old values"));
}

TEST_CASE("other options may change, and a line says which") {
  Other run;
  run.after.options.schedule.rate = 0.5;
  run.after.options.valid_every = 2;
  run.after.options.patience = 3;
  CHECK(run.resume().message.empty());
  REQUIRE(run.warnings.size() == 1);
  CHECK(run.warns("lr was 0.001, is 0.5; valid_every was 4, is 2; patience was 0, is 3"));
}

TEST_CASE("other data is refused, or gone on with loudly") {
  Other run;
  run.after.text.push_back(1);
  Thrown thrown = run.resume();
  CHECK(thrown.kind == ErrorKind::invalid_argument);
  CHECK(thrown.says("another training text ("));
  CHECK(thrown.says("--allow-changed-data"));
  run.after = run.before;
  run.after.validation.push_back(1);
  thrown = run.resume();
  CHECK(thrown.says("another validation text ("));
  CHECK(run.warnings.empty());

  run.after.text.push_back(1);
  run.after.options.steps = 9;
  const auto trainer = run.after.make();
  trainer->resume(run.checkpoint, true, &run.warnings);
  CHECK(run.warns("GOING ON WITH OTHER DATA"));
  CHECK_FALSE(trainer->state().best.has_value());
  CHECK(trainer->run({}).step == 9);
  CHECK(trainer->state().data_hash != run.checkpoint.state.data_hash);
}

TEST_CASE("a checkpoint of another program, which knows neither options nor data, is gone on with") {
  Other run;
  RunState& state = run.checkpoint.state;
  state.options = state.config = state.history = state.statistics = Json();
  state.data_hash = state.validation_hash = state.tokenizer_hash = state.order_hash = "";
  run.after.options.batch = 3;
  run.after.options.steps = 8;
  const auto trainer = run.after.make();
  trainer->resume(run.checkpoint, false, &run.warnings);
  CHECK(run.warnings.empty());
  CHECK(trainer->run({}).step == 8);
  CHECK(trainer->state().optimizer_step == 8);
}

TEST_CASE("a checkpoint without an optimizer is refused") {
  Other run;
  run.checkpoint.exp_avg.clear();
  CHECK(run.resume().says("no optimizer state"));
}
