// CheckpointManager: names, limits, what is kept; writers that are killed, disks that are full.
#include "bdh/train/checkpoint_manager.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "tests/support/checkpoints.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/soak.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using bdh::Checkpoint;
using bdh::CheckpointLimits;
using bdh::CheckpointManager;
using bdh::ErrorKind;
using bdh::read_checkpoint;
using bdh::test::checkpoint_at;
using bdh::test::read_file;
using bdh::test::TemporaryDirectory;
using bdh::test::Thrown;
using bdh::test::thrown_by;
using bdh::test::write_file;
using Names = std::set<std::string>;

/// Of whole checkpoints, without "checkpoint_".
Names names_in(const fs::path& folder) {
  Names names;
  for (const bdh::CheckpointEntry& entry : bdh::list_checkpoints(folder, true)) {
    CHECK_MESSAGE(entry.problem.empty(), entry.problem);
    names.insert(entry.name.substr(std::string("checkpoint_").size()));
  }
  return names;
}

fs::path file_in(const fs::path& folder, const std::string& name) {
  return folder / ("checkpoint_" + name + ".safetensors");
}

/// Different contents, of checkpoints and of one that is being written; a .meta.json is small.
size_t contents_in(const fs::path& folder) {
  constexpr off_t kSmall = 4096;
  std::set<ino_t> contents;
  for (const auto& entry : fs::directory_iterator(folder)) {
    struct stat info {};
    if (::stat(entry.path().c_str(), &info) == 0 && info.st_size > kSmall) contents.insert(info.st_ino);
  }
  return contents.size();
}

void save_step(CheckpointManager& manager, int64_t step, std::optional<double> metric = {},
               const std::string& best = "") {
  manager.save(checkpoint_at(step), {.step = true, .epoch = false, .best = best, .metric = metric});
}

int64_t step_of(const fs::path& folder, const std::string& name) {
  return read_checkpoint(file_in(folder, name)).state.step;
}

/// Saves checkpoints as fast as it can until it is killed.
[[noreturn]] void save_forever(const fs::path& folder, CheckpointLimits limits) {
  CheckpointManager manager(folder, limits);
  const auto latest = manager.latest();
  for (int64_t step = latest ? bdh::read_run_state(*latest).step + 1 : 1;; ++step) {
    const double metric = static_cast<double>(step * 7919 % 101);
    save_step(manager, step, metric, step % 3 == 0 ? "valid_loss" : "");
  }
}

// A process under a sanitizer is slow to begin.
void wait_for(const fs::path& file) {
  constexpr int kLooks = 60'000;
  int looks = 0;
  while (!fs::exists(file)) {
    REQUIRE(++looks < kLooks);
    ::usleep(1000);
  }
}

}  // namespace

TEST_CASE("checkpoint manager: one content under all its names") {
  const TemporaryDirectory parent;
  const fs::path folder = parent / "run" / "." / "checkpoints";
  CheckpointManager manager(folder, {});
  CHECK_FALSE(manager.latest());
  CHECK_FALSE(manager.best());
  manager.save(checkpoint_at(20), {.step = true, .epoch = true, .best = "valid_loss", .metric = 1.5});
  CHECK(manager.wait().empty());
  CHECK(names_in(folder) == Names{"latest", "step_20", "epoch_2", "best_valid_loss"});
  CHECK(contents_in(folder) == 1);
  for (const char* name : {"latest", "step_20", "epoch_2", "best_valid_loss"}) {
    const fs::path file = file_in(folder, name);
    CHECK(bdh::test::same_checkpoint(read_checkpoint(file), [] {
      Checkpoint wanted = checkpoint_at(20);
      wanted.metric = 1.5;
      return wanted;
    }()));
    CHECK(read_file(bdh::meta_file_of(file)).find(file.filename().string()) != std::string::npos);
  }
  CHECK(manager.latest() == file_in(folder, "latest"));
  CHECK(manager.best() == file_in(folder, "best_valid_loss"));
}

TEST_CASE("checkpoint manager: latest alone, again and again") {
  const TemporaryDirectory folder;
  CheckpointManager manager(folder.path(), {});
  for (const int64_t step : {1, 2, 3}) manager.save(checkpoint_at(step), {});
  CHECK(manager.wait().empty());
  CHECK(names_in(folder.path()) == Names{"latest"});
  CHECK(step_of(folder.path(), "latest") == 3);
}

TEST_CASE("checkpoint manager: the best by metric and the newest are kept") {
  const TemporaryDirectory folder;
  const auto kept = [&](CheckpointLimits limits, const std::vector<double>& metrics) {
    CheckpointManager manager(folder.path(), limits);
    for (size_t i = 0; i < metrics.size(); ++i) save_step(manager, static_cast<int64_t>(i) + 1, metrics[i]);
    CHECK(manager.wait().empty());
    Names names = names_in(folder.path());
    CHECK(names.erase("latest") == 1);
    return names;
  };
  const std::vector<double> metrics{5, 1, 4, 2, 6, 3};
  SUBCASE("the newest") { CHECK(kept({.total = 2, .top = 0}, metrics) == Names{"step_5", "step_6"}); }
  SUBCASE("one of them the best") {
    CHECK(kept({.total = 3, .top = 1}, metrics) == Names{"step_2", "step_5", "step_6"});
  }
  SUBCASE("two of them the best, which a newer one is") {
    CHECK(kept({.total = 3, .top = 2}, metrics) == Names{"step_2", "step_4", "step_6"});
  }
  SUBCASE("greater is better") {
    CHECK(kept({.total = 3, .top = 2, .greater_is_better = true}, metrics) ==
          Names{"step_1", "step_5", "step_6"});
  }
  SUBCASE("all") { CHECK(kept({.total = 0}, metrics).size() == 6); }
  SUBCASE("what has no number for a metric is not the best") {
    CHECK(kept({.total = 2, .top = 1}, {3, 2, NAN, 4}) == Names{"step_2", "step_4"});
  }
}

TEST_CASE("checkpoint manager: best and latest stay and count") {
  const TemporaryDirectory folder;
  CheckpointManager manager(folder.path(), {.total = 3, .top = 1});
  save_step(manager, 1, 1.0, "valid_loss");
  for (int64_t step = 2; step <= 6; ++step) save_step(manager, step);
  manager.save(checkpoint_at(7), {});
  CHECK(manager.wait().empty());
  CHECK(names_in(folder.path()) == Names{"latest", "best_valid_loss", "step_1", "step_6"});
  CHECK(step_of(folder.path(), "best_valid_loss") == 1);
  CHECK(step_of(folder.path(), "latest") == 7);
  CHECK(contents_in(folder.path()) == 3);
}

TEST_CASE("checkpoint manager: of a limit of one, two contents stay: best and latest") {
  const TemporaryDirectory folder;
  CheckpointManager manager(folder.path(), {.total = 1, .top = 0});
  manager.save(checkpoint_at(1), {.best = "valid_loss", .metric = 1.0});
  for (int64_t step = 2; step <= 4; ++step) save_step(manager, step);
  CHECK(manager.wait().empty());
  CHECK(names_in(folder.path()) == Names{"latest", "best_valid_loss", "step_4"});
  CHECK(contents_in(folder.path()) == 2);
}

TEST_CASE("checkpoint manager: steps past an earlier checkpoint that a run was taken back to go first") {
  const TemporaryDirectory folder;
  CheckpointManager manager(folder.path(), {.total = 2, .top = 1});
  save_step(manager, 10, 3.0);
  save_step(manager, 20, 1.0);
  save_step(manager, 11, 2.0);
  CHECK(manager.wait().empty());
  CHECK(names_in(folder.path()) == Names{"latest", "step_10", "step_11"});
}

TEST_CASE("checkpoint manager: a metric that is no part of a name is refused") {
  const TemporaryDirectory folder;
  CheckpointManager manager(folder.path(), {});
  for (const char* metric : {"../up", "a/b", "a b", "\n", "größe"}) {
    const Thrown error = thrown_by([&] { save_step(manager, 1, 1.0, metric); });
    CHECK(error.kind == ErrorKind::invalid_argument);
    CHECK_MESSAGE(error.says("metric"), error.message);
  }
  CHECK(thrown_by([&] { save_step(manager, 1, 1.0, std::string(101, 'a')); }).kind);
  CHECK(manager.wait().empty());
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("checkpoint manager: a damaged latest, and the newest whole one in its place") {
  const TemporaryDirectory folder;
  const fs::path latest = file_in(folder.path(), "latest");
  CheckpointManager manager(folder.path(), {});
  save_step(manager, 1), save_step(manager, 2);
  manager.save(checkpoint_at(3), {});
  CHECK(manager.wait().empty());
  std::vector<std::string> warnings;
  CHECK(manager.latest(&warnings) == latest);
  CHECK(warnings.empty());
  std::string bytes = read_file(latest);
  SUBCASE("in its tensors") { bytes.back() ^= 1; }
  SUBCASE("in its header") { bytes.resize(20); }
  write_file(latest, bytes);
  CHECK(manager.latest(&warnings) == file_in(folder.path(), "step_2"));
  REQUIRE(warnings.size() == 2);
  CHECK(warnings[0].find("checkpoint_latest.safetensors") != std::string::npos);
  CHECK(warnings[1].find("checkpoint_step_2") != std::string::npos);
  fs::remove(latest);
  CHECK(manager.latest() == file_in(folder.path(), "step_2"));
  write_file(file_in(folder.path(), "step_2"), "");
  write_file(file_in(folder.path(), "step_1"), "");
  CHECK_FALSE(manager.latest());
}

TEST_CASE("checkpoint manager: on a full disk the old ones stay, it is told, and later writes go on") {
  const TemporaryDirectory folder;
  CheckpointManager manager(folder.path(), {.total = 1});
  save_step(manager, 1);
  CHECK(manager.wait().empty());
  {
    const bdh::test::FileSizeLimit limit(20'000);
    save_step(manager, 2);
    const std::vector<std::string> problems = manager.wait();
    REQUIRE(problems.size() == 1);
    CHECK_MESSAGE(problems[0].find("checkpoint_step_2.safetensors") != std::string::npos, problems[0]);
  }
  CHECK(names_in(folder.path()) == Names{"latest", "step_1"});
  CHECK(manager.problems().empty());
  save_step(manager, 3);
  CHECK(manager.wait().empty());
  CHECK(names_in(folder.path()) == Names{"latest", "step_3"});
}

TEST_CASE("checkpoint manager: a file in the folder's place is one error") {
  const TemporaryDirectory folder;
  write_file(folder / "file", "");
  const Thrown error = thrown_by([&] { CheckpointManager(folder / "file", {}); });
  CHECK(error.kind == ErrorKind::io);
}

TEST_CASE("checkpoint manager: what a killed write left is repaired at the start") {
  const TemporaryDirectory folder;
  {
    CheckpointManager manager(folder.path(), {});
    save_step(manager, 1);
  }
  const fs::path meta = bdh::meta_file_of(file_in(folder.path(), "latest"));
  const std::string right = read_file(meta);
  write_file(meta, "{}");
  write_file(folder / "checkpoint_step_9.meta.json", "{}");
  write_file(folder / ".bdh-1-0.tmp", "half");
  const CheckpointManager manager(folder.path(), {});
  CHECK(read_file(meta) == right);
  CHECK_FALSE(fs::exists(folder / "checkpoint_step_9.meta.json"));
  CHECK_FALSE(fs::exists(folder / ".bdh-1-0.tmp"));
}

TEST_CASE("checkpoint manager: killed before the first latest, again and again") {
  const TemporaryDirectory folder;
  for (int64_t step = 1; step <= 5; ++step) {
    write_checkpoint(file_in(folder.path(), "step_" + std::to_string(step)), checkpoint_at(step));
    const CheckpointManager manager(folder.path(), {.total = 2, .top = 1});
    CHECK(step_of(folder.path(), "latest") == step);
    CHECK(contents_in(folder.path()) <= 2);
    fs::remove(file_in(folder.path(), "latest"));
  }
}

TEST_CASE("checkpoint manager: killed at any moment, latest is whole and no more is on disk than may be") {
  const TemporaryDirectory folder;
  constexpr CheckpointLimits kLimits{.total = 3, .top = 1};
  std::mt19937 random(7);
  int64_t before = 0;
  for (int round = 0; round < bdh::test::rounds(12); ++round) {
    const pid_t writer = ::fork();
    if (writer == 0) save_forever(folder.path(), kLimits);
    if (round == 0) wait_for(file_in(folder.path(), "latest"));
    ::usleep(static_cast<useconds_t>(random() % 40'000));
    ::kill(writer, SIGKILL);
    ::waitpid(writer, nullptr, 0);
    CAPTURE(round);
    REQUIRE(contents_in(folder.path()) <= 4);
    names_in(folder.path());
    const fs::path latest = file_in(folder.path(), "latest");
    if (!fs::exists(latest)) continue;
    Checkpoint checkpoint = read_checkpoint(latest);
    REQUIRE(checkpoint.state.step >= before);
    before = checkpoint.state.step;
    checkpoint.metric.reset();
    REQUIRE(bdh::test::same_checkpoint(checkpoint, checkpoint_at(before)));
  }
  CHECK(before > 0);
  { const CheckpointManager manager(folder.path(), kLimits); }
  CHECK(contents_in(folder.path()) <= 3);
  for (const auto& entry : fs::directory_iterator(folder.path()))
    CHECK(entry.path().filename().string().starts_with("checkpoint_"));
}
