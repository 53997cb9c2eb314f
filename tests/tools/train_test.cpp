// `bdh train`: what a run writes, resumes, refuses and says. Runs the built program.

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "bdh/pretrained/model.h"
#include "bdh/pretrained/validate.h"
#include "tests/support/command.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/outcome.h"
#include "tests/support/programs.h"
#include "tests/support/running_command.h"
#include "tests/support/training_run.h"

namespace {

namespace fs = std::filesystem;
using bdh::Json;
using bdh::Model;
using bdh::test::check_failure;
using bdh::test::CommandResult;
using bdh::test::has;
using bdh::test::joined;
using bdh::test::json_of;
using bdh::test::metrics_of;
using bdh::test::output_of;
using bdh::test::read_file;
using bdh::test::run_command;
using bdh::test::tensors_of;
using bdh::test::TrainingRun;
using bdh::test::write_file;

Json json_file(const fs::path& path) { return Json::parse(read_file(path), path.string()); }

/// (steps, 4, 17) I32 as --batches takes them.
void write_batches(const fs::path& file, int64_t steps) {
  std::byte* data = nullptr;
  const bdh::Tensor tokens = bdh::make_tensor(bdh::DType::i32, {steps, 4, 17}, &data);
  auto* values = reinterpret_cast<int32_t*>(data);
  for (int64_t i = 0; i < tokens.numel(); ++i) values[i] = static_cast<int32_t>(i * i % 251);
  bdh::write_safetensors(file, {{"tokens", tokens}}, {});
}

}  // namespace

TEST_CASE("bdh train: a run writes its metrics, checkpoints, curve and models") {
  const TrainingRun run;
  const Json json = json_of(run.train("out", {"--ema", "0.9", "--json", "--version", "v1.0"}));
  CHECK(json.find("step")->as_integer() == 24);
  CHECK(json.find("stopped")->as_string() == "done");
  const std::vector<Json> metrics = metrics_of(run / "out");
  REQUIRE(metrics.size() == 24);
  CHECK(metrics.front().find("loss")->as_number() == doctest::Approx(5.545).epsilon(0.01));  // ln 256
  CHECK(metrics.back().find("loss")->as_number() < 5.2);
  for (size_t i = 0; i < metrics.size(); ++i) {
    CHECK(metrics[i].find("step")->as_integer() == static_cast<int64_t>(i) + 1);
    CHECK((metrics[i].find("valid_loss") != nullptr) == (i % 6 == 5));
  }
  for (const char* file : {"options.json", "training.svg", "checkpoints/checkpoint_latest.safetensors",
                           "final/README.md", "final/training_metadata.json", "final/training.svg"})
    CHECK_MESSAGE(fs::exists(run / "out" / file), file);
  CHECK_FALSE(fs::is_empty(run / "out" / "events"));
  for (const char* model : {"final", "best", "ema"}) {
    CHECK(Model::from_pretrained(run / "out" / model).block_size() == 16);
    for (const bdh::Check& check : bdh::validate(run / "out" / model))
      CHECK_MESSAGE(check.verdict != bdh::Verdict::failed, check.name << ": " << check.detail);
  }
  CHECK(tensors_of(run / "out/final") != tensors_of(run / "out/ema"));
}

TEST_CASE("bdh train: what it says in a pipe") {
  const TrainingRun run;
  const CommandResult result = run.train("out");
  const std::string text = output_of(result);
  for (const char* part :
       {"steps            24 of 24\n", "loss ", "validation ", "best ", "tokens ", "model "})
    CHECK_MESSAGE(has(text, part), part);
  CHECK_FALSE(has(result.err, "\r"));
  CHECK(has(result.err, "bdh: a new run\n"));
  CHECK(has(result.err, "bdh: step 6 of 24: loss "));
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 6);  // run, sizes, four validations
}

TEST_CASE("bdh train: goes on to the same bits, and says so") {
  const TrainingRun run;
  output_of(run.train("whole"));
  output_of(run.train("parts", {"--steps", "9"}));
  const CommandResult resumed = run.resume("parts");
  output_of(resumed);
  CHECK(has(resumed.err, "resumed from "));
  CHECK(has(resumed.err, "after step 9"));
  CHECK(tensors_of(run / "parts/final") == tensors_of(run / "whole/final"));
  const std::vector<Json> whole = metrics_of(run / "whole"), parts = metrics_of(run / "parts");
  REQUIRE(whole.size() == parts.size());
  for (size_t i = 0; i < whole.size(); ++i)
    CHECK(whole[i].find("loss")->as_number() == parts[i].find("loss")->as_number());
  // By itself: the run knows its options.
  output_of(run_command({"train", "--out", (run / "parts").string(), "--resume", "--steps", "26"}));
  CHECK(metrics_of(run / "parts").size() == 26);
  CHECK(json_file(run / "parts/options.json").find("batch")->as_integer() == 2);
  // Back to an older checkpoint: what came later is cut off.
  output_of(run.resume("parts", {"checkpoint_step_24", "--steps", "25"}));
  CHECK(metrics_of(run / "parts").size() == 25);
}

TEST_CASE("bdh train: a folder that holds a run is left alone, unless it is resumed") {
  const TrainingRun run;
  output_of(run.train("out", {"--steps", "4"}));
  const std::string before = read_file(run / "out/metrics.jsonl");
  check_failure(run.train("out", {"--steps", "4"}), 1, "go on with --resume");
  fs::remove_all(run / "out/checkpoints");
  check_failure(run.train("out"), 1, "give another --out");
  check_failure(run.resume("out"), 1, "give another --out");
  CHECK(read_file(run / "out/metrics.jsonl") == before);
}

TEST_CASE("bdh train: --resume without a checkpoint is a new run, and says so") {
  const TrainingRun run;
  const CommandResult result = run.resume("out", {"--steps", "2"});
  output_of(result);
  CHECK(has(result.err, "no whole checkpoint yet"));
  check_failure(run.resume("other", {(run / "nowhere.safetensors").string()}), 1, "nowhere.safetensors");
}

TEST_CASE("bdh train: from a model") {
  const TrainingRun run;
  output_of(run.train("first", {"--steps", "8"}));
  const std::string model = (run / "first/final").string();
  const auto from = [&](const std::vector<std::string>& more) {
    return run_command(joined({"train", "--out", (run / "second").string(), "--from", model, "--data",
                               run.text(), "--batch", "2", "--block", "16"},
                              more));
  };
  const CommandResult result = from({"--steps", "3"});
  output_of(result);
  CHECK(has(result.err, "a new run from the weights of " + model));
  CHECK(metrics_of(run / "second").front().find("loss")->as_number() < 5.5);
  // Where there is a checkpoint, --from counts no more.
  const CommandResult resumed = from({"--resume", "--steps", "4"});
  output_of(resumed);
  CHECK(has(resumed.err, "resumed from "));
  CHECK(metrics_of(run / "second").size() == 4);
}

TEST_CASE("bdh train: a model's horizon is not dropped in silence") {
  const TrainingRun run;
  output_of(run.train("first", {"--steps", "2", "--horizon", "12"}));
  const auto from_first = [&](const std::string& out, const std::string& horizon) {
    return run_command({"train", "--out", (run / out).string(), "--from", (run / "first/final").string(),
                        "--data", run.text(), "--steps", "1", "--batch", "1", "--block", "8", "--horizon",
                        horizon});
  };
  CHECK(has(from_first("without", "none").err, "to keep it: --horizon 12"));
  CHECK_FALSE(has(from_first("with", "16").err, "to keep it"));
}

TEST_CASE("bdh train: through a training checkpoint of PyTorch and on, the same bits") {
  const TrainingRun run;
  output_of(run.train("whole", {"--checkpoint-every", "10", "--schedule", "constant"}));
  const std::string torch = run / "begun.pt";
  output_of(run_command({"checkpoints", (run / "whole").string(), "--to-torch", torch, "--name", "step_10"}));
  const CommandResult result = run.resume("on", {torch, "--schedule", "constant"});
  output_of(result);
  CHECK(has(result.err, "resumed from " + torch + ", after step 10"));
  CHECK(tensors_of(run / "on/final") == tensors_of(run / "whole/final"));
}

TEST_CASE("bdh train: another text is refused by name, and allowed aloud") {
  const TrainingRun run;
  output_of(run.train("out", {"--steps", "4"}));
  write_file(run / "other.txt", bdh::test::training_text(7000));
  const std::string other = (run / "other.txt").string();
  check_failure(run.resume("out", {"--data", other}), 1, "--allow-changed-data");
  const CommandResult allowed = run.resume("out", {"--data", other, "--allow-changed-data", "--steps", "6"});
  output_of(allowed);
  CHECK(has(allowed.err, "bdh: warning: "));
  check_failure(run.resume("out", {"--data", other, "--block", "8"}), 1, "block");
}

TEST_CASE("bdh train: exactly the batches of a file, without data") {
  const TrainingRun run;
  write_batches(run / "batches.safetensors", 5);
  const std::vector<std::string> arguments{"train",    "--batches",  (run / "batches.safetensors").string(),
                                           "--config", run.config(), "--accumulate",
                                           "2",        "--json"};
  const Json json = json_of(run_command(joined(arguments, {"--out", (run / "out").string()})));
  CHECK(json.find("steps")->as_integer() == 5);
  CHECK(json.find("tokens")->as_integer() == 5 * 4 * 16);
  CHECK(Model::from_pretrained(run / "out/final").block_size() == 16);
}

TEST_CASE("bdh train: options in a file, flags before them") {
  const TrainingRun run;
  write_file(run / "options.json", R"({"steps": 3, "lr": 0.01, "data": ")" + run.text() + R"("})");
  output_of(run_command({"train", "--options", (run / "options.json").string(), "--config", run.config(),
                         "--out", (run / "out").string(), "--batch", "2", "--block", "8", "--steps", "2"}));
  const Json saved = json_file(run / "out/options.json");
  CHECK(saved.find("steps")->as_integer() == 2);
  CHECK(saved.find("lr")->as_number() == 0.01);
  write_file(run / "wrong.json", R"({"stepps": 3})");
  check_failure(run.train("other", {"--options", (run / "wrong.json").string()}), 1, "stepps");
}

TEST_CASE("bdh train: flags that make no sense") {
  const TrainingRun run;
  CHECK(run.train("out", {"--steps", "0"}).exit_code == 2);
  CHECK(run.train("out", {"--schedule", "steep"}).exit_code == 2);
  CHECK(run.train("out", {"--lr", "fast"}).exit_code == 2);
  CHECK(run.train("out", {"--batches", "b.safetensors"}).exit_code == 2);
  CHECK(run.train("out", {"--register", "poet"}).exit_code == 2);
  CHECK(run.train("out", {"--version", "new"}).exit_code == 2);
  check_failure(run_command({"train", "--out", (run / "out").string()}), 2, "--data");
  CHECK(run_command({"train", "--data", run.text()}).exit_code == 2);
  check_failure(run.train("out", {"--data", (run / "nowhere").string()}), 1, "nowhere");
  check_failure(run.train("out", {"--config", (run / "nowhere").string()}), 1, "nowhere");
  check_failure(run.train("out", {"--block", "100000"}), 1, "block");
  CHECK_FALSE(fs::exists(run / "out/checkpoints/checkpoint_latest.safetensors"));
}

TEST_CASE("bdh train: a full disk costs no run that is there") {
  const TrainingRun run;
  output_of(run.train("out", {"--steps", "4"}));
  const std::string before = read_file(run / "out/checkpoints/checkpoint_latest.safetensors");
  {
    const bdh::test::FileSizeLimit limit(40'000);
    const CommandResult result = run.resume("out");
    CHECK(result.exit_code == 1);
    CHECK(has(result.err, "bdh: warning: "));
  }
  CHECK(read_file(run / "out/checkpoints/checkpoint_latest.safetensors") == before);
  output_of(run.resume("out"));
  output_of(run.train("whole"));
  CHECK(tensors_of(run / "out/final") == tensors_of(run / "whole/final"));
}

TEST_CASE("bdh train: one run at a time in a folder") {
  const TrainingRun run;
  bdh::test::RunningCommand running(run.arguments("out", {"--steps", "100000", "--valid-every", "0"}));
  bdh::test::wait_for_steps(run / "out");
  check_failure(run.train("out"), 1, "another bdh train");
}

TEST_CASE("bdh train: in the registry, with its version") {
  const TrainingRun run;
  const std::string registry = (run / "registry.json").string();
  setenv("BDH_REGISTRY", registry.c_str(), 1);
  const CommandResult result = run.train("out", {"--steps", "2", "--register", "poet", "--version", "v1.2"});
  unsetenv("BDH_REGISTRY");
  output_of(result);
  CHECK(output_of(run_command({"models", "path", "poet:v1.2", "--registry", registry})) ==
        (run / "out/final").string() + "\n");
}

TEST_CASE("The training example: trains, and goes on where it was") {
  const TrainingRun run;
  write_file(run / "long.txt", bdh::test::training_text(30'000));
  const std::vector<std::string> arguments{(run / "long.txt").string(), (run / "out").string()};
  const std::string first = output_of(bdh::test::run_program(bdh::test::kTrainExample, arguments));
  CHECK(has(first, "from step 0\n"));
  CHECK(has(first, "step 20, loss "));
  CHECK(Model::from_pretrained(run / "out/final").block_size() == 64);
  CHECK(has(output_of(bdh::test::run_program(bdh::test::kTrainExample, arguments)), "from step 20\n"));
}
