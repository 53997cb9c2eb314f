// Runs shared by several ranks: the same bits as one, and no rank waits for another that has failed.
#include "bdh/train/ranks.h"

#include <doctest/doctest.h>

#include <atomic>
#include <optional>

#include "tests/support/temporary.h"
#include "tests/support/thread_ranks.h"
#include "tests/support/thrown.h"
#include "tests/support/training_runs.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr int kCounts[] = {1, 2, 3, 6};

RunSetup shared_setup() {
  RunSetup setup;
  setup.options.accumulate = 6;
  setup.options.batch = 1;
  setup.options.dropout = 0.2;
  setup.options.ema = 0.9;
  setup.options.clip = 0.3;
  setup.options.schedule.rate = 0.02;
  setup.validation.resize(60);
  return setup;
}

RunSetup carried_setup() {
  RunSetup setup = shared_setup();
  setup.options.carry_state = true;
  setup.options.horizon = {16, 32};
  return setup;
}

RunSetup adapter_setup() {
  RunSetup setup = shared_setup();
  setup.options.lora = {.on = true, .rank = 3};
  return setup;
}

struct Ended {
  std::optional<Checkpoint> end;  // rank 0's
  RunLog log;
  TrainResult result;
};

// rank_stops: the rank that is asked to stop, at its question of that number.
Ended run(const RunSetup& setup, int count, const std::optional<Checkpoint>& from = {}, int rank_stops = -1,
          int64_t question = -1) {
  Ended ended;
  run_ranks(count, [&](Ranks& ranks) {
    const auto trainer = setup.make(ranks);
    if (from) trainer->resume(*from, false, nullptr);
    RunLog log;
    if (ranks.rank() == rank_stops) log.stop_at = question;
    const TrainResult result = trainer->run(log.callbacks());
    const Checkpoint end = trainer->checkpoint();
    if (ranks.rank() != 0) CHECK(log.steps.empty());
    if (ranks.rank() != 0) return;
    ended.end = end;
    ended.log = log;
    ended.result = result;
  });
  return ended;
}

// Throws on one rank at a step.
class FailingOrder : public BatchOrder {
 public:
  FailingOrder(std::unique_ptr<BatchOrder> order, int64_t micro_batch)
      : order_(std::move(order)), micro_batch_(micro_batch) {}
  BatchTokens batch(int64_t step, int64_t micro_batch) const override {
    if (step == 7 && micro_batch == micro_batch_) fail(ErrorKind::bad_file, "the disk is on fire");
    return order_->batch(step, micro_batch);
  }
  int64_t steps_per_epoch() const override { return order_->steps_per_epoch(); }
  int64_t steps() const override { return order_->steps(); }
  std::string hash() const override { return order_->hash(); }

 private:
  std::unique_ptr<BatchOrder> order_;
  int64_t micro_batch_;
};

}  // namespace

TEST_CASE("any number of ranks that divides the micro-batches gives the same bits") {
  for (const RunSetup& setup : {shared_setup(), carried_setup(), adapter_setup()}) {
    const Ended alone = run(setup, 1);
    for (const int count : kCounts) {
      CAPTURE(count);
      const Ended ended = run(setup, count);
      CHECK(same_end(*ended.end, *alone.end));
      REQUIRE(ended.log.steps.size() == alone.log.steps.size());
      for (size_t i = 0; i < alone.log.steps.size(); ++i) {
        CHECK(ended.log.steps[i].loss == alone.log.steps[i].loss);
        CHECK(ended.log.steps[i].gradient_norm == alone.log.steps[i].gradient_norm);
        CHECK(ended.log.steps[i].valid_loss == alone.log.steps[i].valid_loss);
        CHECK(ended.log.steps[i].ema_valid_loss == alone.log.steps[i].ema_valid_loss);
      }
    }
  }
}

TEST_CASE("several pieces of validation are shared among ranks") {
  RunSetup setup = shared_setup();
  setup.validation.clear();
  for (int32_t i = 0; i < 5000; ++i) setup.validation.push_back(i * i % 19);
  const Ended alone = run(setup, 1);
  for (const int count : kCounts) CHECK(same_end(*run(setup, count).end, *alone.end));
}

TEST_CASE("any rank may be asked to stop, and a run goes on with another number of ranks") {
  for (const RunSetup& setup : {shared_setup(), carried_setup()}) {
    const Ended whole = run(setup, 1);
    for (const int stopping : {0, 1, 2}) {
      for (const int64_t question : {0, 7, 8, 9}) {
        CAPTURE(stopping);
        CAPTURE(question);
        const Ended stopped = run(setup, 3, {}, stopping, question);
        CHECK(stopped.result.reason == StopReason::asked);
        CHECK(stopped.result.step < 12);
        CHECK(same_end(*run(setup, 2, stopped.end).end, *whole.end));
        CHECK(same_end(*run(setup, 1, stopped.end).end, *whole.end));
      }
    }
  }
}

TEST_CASE("a rank that fails ends the run of all, and is named") {
  const TemporaryDirectory folder;
  RunSetup setup = shared_setup();
  setup.checkpoints = folder.path();
  setup.options.checkpoint_every = 5;
  for (const int64_t micro_batch : {1, 5}) {
    const int failing = micro_batch == 1 ? 0 : 2;
    setup.order = [order = RunSetup().order, micro_batch](const RunSetup& self) {
      return std::make_unique<FailingOrder>(order(self), micro_batch);
    };
    std::atomic<int> failed{0};
    run_ranks(3, [&](Ranks& ranks) {
      const auto trainer = setup.make(ranks);
      const Thrown thrown = thrown_by([&] { trainer->run({}); });
      failed += thrown.says("the disk is on fire");
      CHECK(thrown.kind == ErrorKind::bad_file);
      CHECK(thrown.says("rank " + std::to_string(failing) + ": ") == (ranks.rank() != failing));
      CHECK(thrown.says("the last good checkpoint is"));
      if (ranks.rank() == 0) CHECK(thrown.says("(step 5)"));  // others may look before it is written
    });
    CHECK(failed == 3);
  }
}

TEST_CASE("a rank that dies ends the run with the last checkpoint named") {
  const TemporaryDirectory folder;
  RunSetup setup = shared_setup();
  setup.checkpoints = folder.path();
  setup.options.checkpoint_every = 5;
  struct Killed {};
  run_ranks(3, [&](Ranks& ranks) {
    const auto trainer = setup.make(ranks);
    RunLog log;
    TrainerCallbacks callbacks = log.callbacks();
    callbacks.stop = [&]() -> bool {
      if (ranks.rank() == 1 && trainer->state().step == 7) throw Killed();
      return false;
    };
    if (ranks.rank() == 1) {
      CHECK_THROWS_AS(trainer->run(callbacks), Killed);
      return;
    }
    const Thrown thrown = thrown_by([&] { trainer->run(callbacks); });
    CHECK(thrown.kind == ErrorKind::io);
    if (ranks.rank() == 0) CHECK(thrown.says("rank 1 is gone; the last good checkpoint is"));
  });
}

TEST_CASE("divergence ends the run of all ranks") {
  RunSetup setup = shared_setup();
  setup.options.schedule.rate = 1e39;
  run_ranks(2, [&](Ranks& ranks) {
    const auto trainer = setup.make(ranks);
    CHECK(thrown_by([&] { trainer->run({}); }).says("training diverged"));
  });
}

TEST_CASE("ranks that do not divide the micro-batches, or differ, are refused") {
  RunSetup setup = shared_setup();
  run_ranks(4, [&](Ranks& ranks) {
    const Thrown thrown = thrown_by([&] { setup.make(ranks); });
    CHECK(thrown.kind == ErrorKind::invalid_argument);
    CHECK(thrown.says("4 ranks cannot share the 6 micro-batches"));
  });
  run_ranks(2, [&](Ranks& ranks) {
    RunSetup own = setup;
    if (ranks.rank() == 1) own.options.schedule.rate = 1;
    const auto trainer = own.make(ranks);
    CHECK(thrown_by([&] { trainer->run({}); }).says("other options, data or checkpoint than rank 0"));
  });
}

TEST_CASE("one rank has nobody to talk to") {
  const auto ranks = single_rank();
  CHECK(ranks->rank() == 0);
  CHECK(ranks->size() == 1);
  CHECK(thrown_by([&] { ranks->send({}, 1); }).says("there is no rank 1"));
}
