// `bdh checkpoints`: lists, paths, verdicts and exports. Runs the built program on checkpoints made here.

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/pretrained/model.h"
#include "bdh/train/checkpoint_manager.h"
#include "bdh/train/options.h"
#include "bdh/train/torch_checkpoint.h"
#include "tests/support/checkpoints.h"
#include "tests/support/outcome.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"

namespace {

namespace fs = std::filesystem;
using bdh::Checkpoint;
using bdh::Json;
using bdh::test::check_failure;
using bdh::test::checkpoint_at;
using bdh::test::CommandResult;
using bdh::test::has;
using bdh::test::json_of;
using bdh::test::output_of;
using bdh::test::TemporaryDirectory;

Checkpoint with_options(int64_t step) {
  Checkpoint checkpoint = checkpoint_at(step);
  bdh::TrainOptions options;
  options.beta2 = 0.95;
  options.no_decay = {"embed.weight"};
  checkpoint.state.options = options.to_json();
  return checkpoint;
}

/// Steps 10 and 20, the first of them the best.
class Run {
 public:
  Run() {
    bdh::CheckpointManager manager(folder_ / "checkpoints", {});
    manager.save(with_options(10), {.step = true, .epoch = false, .best = "valid_loss", .metric = 1.25});
    manager.save(with_options(20), {.step = true, .epoch = false, .best = "", .metric = 1.5});
    REQUIRE(manager.wait().empty());
  }

  std::string path(std::string_view name = {}) const { return (folder_ / name).string(); }
  std::string checkpoint(const std::string& name) const {
    return (folder_.path() / "checkpoints" / ("checkpoint_" + name + ".safetensors")).string();
  }
  CommandResult operator()(std::vector<std::string> words) const {
    words.insert(words.begin(), {"checkpoints", folder_.path().string()});
    return bdh::test::run_command(words);
  }

 private:
  TemporaryDirectory folder_;
};

}  // namespace

TEST_CASE("bdh checkpoints: the list, of the run's folder or that of its checkpoints") {
  const Run run;
  const std::string table = output_of(run({}));
  for (const char* part :
       {"checkpoint_latest", "checkpoint_best_valid_loss", "checkpoint_step_10", "1.2500", "20"})
    CHECK(has(table, part));
  CHECK(output_of(bdh::test::run_command({"checkpoints", run.path("checkpoints")})) == table);
  const Json list = json_of(run({"--json"}));
  REQUIRE(list.as_array().size() == 4);
  const Json& first = list.as_array().front();
  CHECK(first.find("name")->as_string() == "checkpoint_best_valid_loss");
  CHECK(first.find("step")->as_integer() == 10);
  CHECK(first.find("metric")->as_number() == 1.25);
  CHECK(first.find("whole")->is_null());
}

TEST_CASE("bdh checkpoints: latest and best are paths") {
  const Run run;
  CHECK(output_of(run({"--latest"})) == run.checkpoint("latest") + "\n");
  CHECK(output_of(run({"--best"})) == run.checkpoint("best_valid_loss") + "\n");
  fs::remove(run.checkpoint("best_valid_loss"));
  check_failure(run({"--best"}), 1, "no best checkpoint");
}

TEST_CASE("bdh checkpoints: a damaged one is found") {
  const Run run;
  CHECK(has(output_of(run({"--verify"})), "whole"));
  std::string bytes = bdh::test::read_file(run.checkpoint("step_10"));
  bytes.back() ^= 1;
  bdh::test::write_file(run.checkpoint("step_10") + ".new", bytes);
  fs::rename(run.checkpoint("step_10") + ".new", run.checkpoint("step_10"));
  CHECK(run({}).exit_code == 0);  // reads headers alone
  const CommandResult result = run({"--verify", "--json"});
  CHECK(result.exit_code == 1);
  CHECK(has(result.err, "1 of 4 checkpoints are damaged"));
  int damaged = 0;
  const Json list = Json::parse(result.out, "stdout");
  for (const Json& entry : list.as_array())
    if (!entry.find("whole")->as_bool()) {
      ++damaged;
      CHECK(entry.find("name")->as_string() == "checkpoint_step_10");
      CHECK(has(entry.find("problem")->as_string(), "differ from their hash"));
    }
  CHECK(damaged == 1);
}

TEST_CASE("bdh checkpoints: exported as a model directory") {
  const Run run;
  const auto check = [&](const std::vector<std::string>& words, const bdh::TensorMap& wanted) {
    const std::string to = run.path("model");
    std::vector<std::string> all{"--export", words[0], to, "--overwrite"};
    all.insert(all.end(), words.begin() + 1, words.end());
    CHECK(has(output_of(run(all)), to));
    const bdh::Model model = bdh::Model::from_pretrained(to);
    const bdh::TensorMap state = model.weights->state_dict();
    for (const char* name : {"encoder", "decoder", "lm_head"})
      CHECK(bdh::test::same_bits(state.at(name), wanted.at(name)));
    CHECK(model.tokenizer != nullptr);
  };
  check({"best"}, checkpoint_at(10).weights);
  check({"latest"}, checkpoint_at(20).weights);
  check({"step_10"}, checkpoint_at(10).weights);
  check({"checkpoint_step_20", "--ema"}, checkpoint_at(20).ema);
  check_failure(run({"--export", "best", run.path("model")}), 1, "already exists");
  check_failure(run({"--export", "step_11", run.path("other")}), 1, "has no checkpoint_step_11");
  check_failure(run({"--export", "best"}), 2, "--export needs the directory");
}

TEST_CASE("bdh checkpoints: without an average --ema is refused") {
  const TemporaryDirectory folder;
  Checkpoint checkpoint = with_options(1);
  checkpoint.ema.clear();
  write_checkpoint(folder / "checkpoint_latest.safetensors", checkpoint);
  check_failure(bdh::test::run_command({"checkpoints", folder.path().string(), "--export", "latest",
                                        (folder / "model").string(), "--ema"}),
                1, "no average");
}

#ifdef BDH_TORCH
TEST_CASE("bdh checkpoints: as a training checkpoint of PyTorch") {
  const Run run;
  const std::string file = run.path("a.pt");
  CHECK(has(output_of(run({"--to-torch", file})), "step 20"));
  const bdh::TorchCheckpoint read = bdh::read_torch_checkpoint(file);
  CHECK(read.checkpoint.state.step == 20);
  CHECK(read.optimizer.beta2 == 0.95);
  CHECK(read.optimizer.no_decay == std::vector<std::string>{"embed.weight"});
  CHECK(bdh::test::same_bits(read.checkpoint.exp_avg, checkpoint_at(20).exp_avg));
  check_failure(run({"--to-torch", file}), 1, "already exists");
  CHECK(has(output_of(run({"--to-torch", file, "--name", "best", "--overwrite"})), "step 10"));
}
#endif

TEST_CASE("bdh checkpoints: mistakes are one line") {
  const TemporaryDirectory folder;
  const std::string empty = folder.path().string();
  check_failure(bdh::test::run_command({"checkpoints", empty}), 1, "no checkpoints there");
  check_failure(bdh::test::run_command({"checkpoints", empty, "--latest"}), 1, "no whole checkpoint");
  check_failure(bdh::test::run_command({"checkpoints", empty + "/none"}), 1, "no such folder");
  check_failure(bdh::test::run_command({"checkpoints", empty, "other"}), 2, "--export alone");
}
