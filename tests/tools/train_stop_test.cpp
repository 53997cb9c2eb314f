// `bdh train` stopped at any moment, by SIGKILL, SIGTERM, Ctrl-C or a file STOP: nothing is lost, and the
// same bits come out. Runs the built program.

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "bdh/train/checkpoint_manager.h"
#include "tests/support/backends.h"
#include "tests/support/outcome.h"
#include "tests/support/running_command.h"
#include "tests/support/soak.h"
#include "tests/support/training_run.h"

namespace {

namespace fs = std::filesystem;
using bdh::test::CommandResult;
using bdh::test::has;
using bdh::test::joined;
using bdh::test::metrics_of;
using bdh::test::output_of;
using bdh::test::RunningCommand;
using bdh::test::signalled_after;
using bdh::test::tensors_of;
using bdh::test::TrainingRun;
using bdh::test::wait_for_steps;

const int kStops = bdh::test::unless_slow(5, 2);
constexpr int kLimit = 3;  // --save-total-limit

const std::vector<std::string> kSteps{"--steps", "60", "--ema", "0.9"};

/// How long a whole run takes.
std::chrono::microseconds time_of(const TrainingRun& run, const std::string& out) {
  const auto before = std::chrono::steady_clock::now();
  output_of(run.train(out, kSteps));
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - before);
}

/// Every checkpoint is whole, and they take no more room than the limit allows and one being written.
void check_checkpoints(const fs::path& folder) {
  if (!fs::exists(folder)) return;
  for (const bdh::CheckpointEntry& entry : bdh::list_checkpoints(folder, true))
    CHECK_MESSAGE(entry.problem.empty(), entry.problem);
  std::map<ino_t, int64_t> contents;
  for (const auto& entry : fs::directory_iterator(folder)) {
    struct stat status = {};
    REQUIRE(::stat(entry.path().c_str(), &status) == 0);
    if (!has(entry.path().string(), ".meta.json")) contents[status.st_ino] = status.st_size;
  }
  int64_t bytes = 0, largest = 0;
  for (const auto& [node, size] : contents) {
    bytes += size;
    largest = std::max(largest, size);
  }
  constexpr int64_t kMeta = 20'000;  // a .meta.json that was being written
  CHECK(bytes <= (kLimit + 1) * largest + kMeta);
}

/// Ends a run by `signal` and again where it goes on, then lets it finish.
void stop_and_finish(const TrainingRun& run, const std::string& out, int signal,
                     std::chrono::microseconds whole, std::mt19937& draw) {
  for (int stops = 0; stops < 2; ++stops) {
    const auto delay = whole * static_cast<int>(draw() % 1000) / 1000;
    const CommandResult result =
        signalled_after(delay, signal, run.arguments(out, joined({"--resume"}, kSteps)));
    CHECK_MESSAGE((result.exit_code == 0 || result.exit_code == 128 + signal), result.err);
    check_checkpoints(run / out / "checkpoints");
  }
  output_of(run.resume(out, kSteps));
}

void check_stops(int signal) {
  const TrainingRun run;
  const std::chrono::microseconds whole = time_of(run, "whole");
  const std::string tensors = tensors_of(run / "whole/final"), average = tensors_of(run / "whole/ema");
  std::mt19937 draw(std::random_device{}());
  for (int i = 0; i < bdh::test::rounds(kStops); ++i) {
    const std::string out = "out" + std::to_string(i);
    stop_and_finish(run, out, signal, whole, draw);
    CHECK(tensors_of(run / out / "final") == tensors);
    CHECK(tensors_of(run / out / "ema") == average);
    CHECK(metrics_of(run / out) == metrics_of(run / "whole"));
    fs::remove_all(run / out);
  }
}

// Until it is stopped; a step that waits for its validation has no line in metrics.jsonl yet.
const std::vector<std::string> kEndless{"--steps", "10000000", "--valid-every", "0"};

}  // namespace

TEST_CASE("bdh train: killed at any moment, it goes on to the same bits") { check_stops(SIGKILL); }

TEST_CASE("bdh train: terminated at any moment, it is not killed in vain: the same bits") {
  check_stops(SIGTERM);
}

TEST_CASE("bdh train: SIGTERM, also an impatient one, and Ctrl-C save, each with its exit code") {
  for (const int signal : {SIGTERM, SIGINT}) {
    const TrainingRun run;
    RunningCommand running(run.arguments("out", kEndless));
    wait_for_steps(run / "out");
    for (int i = 0; i < (signal == SIGTERM ? 3 : 1); ++i) running.signal(signal);
    const CommandResult result = running.wait();
    CHECK(result.exit_code == 128 + signal);
    CHECK(has(result.err, "all is saved"));
    const auto latest = bdh::latest_checkpoint(run / "out/checkpoints");
    REQUIRE(latest);
    CHECK(bdh::read_run_state(*latest).step == static_cast<int64_t>(metrics_of(run / "out").size()));
    CHECK_FALSE(fs::exists(run / "out/final"));
  }
}

TEST_CASE("bdh train: a file STOP saves and is done with") {
  const TrainingRun run;
  RunningCommand running(run.arguments("out", kEndless));
  wait_for_steps(run / "out");
  bdh::test::write_file(run / "out/STOP", "");
  const CommandResult result = running.wait();
  CHECK_MESSAGE(result.exit_code == 0, result.err);
  CHECK(has(result.err, "--resume"));
  CHECK_FALSE(fs::exists(run / "out/STOP"));
  const auto steps = static_cast<int64_t>(metrics_of(run / "out").size());
  output_of(run.resume("out", {"--steps", std::to_string(steps + 2), "--valid-every", "0"}));
  CHECK(static_cast<int64_t>(metrics_of(run / "out").size()) == steps + 2);
}
