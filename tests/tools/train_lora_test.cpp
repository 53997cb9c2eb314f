// `bdh train --lora`: the folder that it leaves, how it goes on, and what is refused. Runs the built program.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "bdh/pretrained/adapters/peft.h"
#include "bdh/pretrained/model.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/outcome.h"
#include "tests/support/tensors.h"
#include "tests/support/training_run.h"

namespace {

namespace fs = std::filesystem;
using namespace bdh;
using namespace bdh::test;

// A base model, and the flags of a run with an adapter for it.
struct LoraRun {
  TrainingRun run;

  LoraRun() {
    fs::create_directory(run / "base");
    write_model(run / "base");
  }
  std::string path(const std::string& name) const { return (run / name).string(); }

  // Later flags win.
  std::vector<std::string> words(const std::string& out, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> given{"train", "--out", path(out), "--from", path("base"), "--lora"};
    for (const auto& [flag, value] : {std::pair<std::string, std::string>{"--data", run.text()},
                                      {"--steps", "12"},
                                      {"--batch", "2"},
                                      {"--block", "16"},
                                      {"--lr", "0.01"},
                                      {"--valid-every", "6"},
                                      {"--checkpoint-every", "4"}})
      if (std::find(more.begin(), more.end(), flag) == more.end()) given = joined(given, {flag, value});
    return joined(given, more);
  }
  CommandResult train(const std::string& out, const std::vector<std::string>& more = {}) const {
    return run_command(words(out, more));
  }
  Model load(const std::string& model) const {
    LoadOptions options;
    options.device = "cpu";
    return Model::from_pretrained(run / model, options);
  }
  TensorMap weights(const std::string& model, const std::vector<AppliedAdapter>& adapters = {}) const {
    const Model loaded = load(model);
    return adapters.empty() ? loaded.weights->state_dict() : merged(loaded, adapters).weights->state_dict();
  }
};

std::string adapter_bytes(const fs::path& out) {
  return read_file(out / "adapter_checkpoint" / "adapter_model.safetensors");
}

}  // namespace

TEST_CASE("bdh train --lora: an adapter, the merged model and metadata.json beside them") {
  const LoraRun lora;
  const std::string before = read_file(lora.run / "base" / "model.safetensors");
  const Json told = json_of(lora.train("out", {"--json", "--ema", "0.9"}));
  CHECK(told.find("adapter")->as_string() == lora.path("out/adapter_checkpoint"));
  CHECK(told.find("model")->as_string() == lora.path("out/final_merged"));
  CHECK(read_file(lora.run / "base" / "model.safetensors") == before);
  CHECK_FALSE(fs::exists(lora.run / "out" / "final"));
  const Config config = lora.load("base").config();
  for (const auto& [adapter, model] : {std::pair("adapter_checkpoint", "final_merged"),
                                       std::pair("best_adapter", "best"), std::pair("ema_adapter", "ema")}) {
    const std::string out = concat("out/", model);
    CAPTURE(out);
    const LoraAdapter loaded = load_peft_adapter(lora.run / "out" / adapter, config);
    CHECK(loaded.updates.size() == 3);
    const TensorMap with = lora.weights("base", {{loaded}});
    for (const auto& [name, tensor] : lora.weights(out))
      CHECK(relative_difference(values<float>(tensor), values<float>(with.at(name))) < 1e-6);
  }
  const Json metadata = Json::parse(read_file(lora.run / "out" / "metadata.json"), "metadata.json");
  CHECK(metadata.find("base_model")->as_string() == lora.path("base"));
  CHECK(metadata.find("lora_config")->find("r")->as_integer() == 8);
  CHECK(metadata.find("training_config")->find("max_steps")->as_integer() == 12);
  CHECK(metadata.find("performance_metrics")->find("parameters_trained")->as_integer() ==
        8 * (2 * (2 * 16 + 2 * 32) + 64 + 16));
  CHECK(fs::file_size(lora.run / "out" / "checkpoints" / "checkpoint_latest.safetensors") <
        before.size() * 4);
}

TEST_CASE("bdh train --lora: goes on to the same bits, on any number of threads") {
  const LoraRun lora;
  output_of(lora.train("whole", {"--threads", "1"}));
  output_of(lora.train("half", {"--threads", "2", "--steps", "5"}));
  output_of(
      run_command({"train", "--out", lora.path("half"), "--resume", "checkpoint_step_4", "--steps", "12"}));
  CHECK(adapter_bytes(lora.run / "half") == adapter_bytes(lora.run / "whole"));
  CHECK(tensors_of(lora.run / "half" / "final_merged") == tensors_of(lora.run / "whole" / "final_merged"));
}

TEST_CASE("bdh train --lora: starts from an adapter, and from a quantized model") {
  const LoraRun lora;
  output_of(lora.train("first"));
  const std::string adapter = lora.path("first/adapter_checkpoint");
  output_of(lora.train("second", {"--adapter", adapter, "--lr", "0"}));
  CHECK(adapter_bytes(lora.run / "second") == adapter_bytes(lora.run / "first"));
  check_failure(lora.train("third", {"--adapter", adapter, "--lora-rank", "4"}), 1, "the run rank 4");
  output_of(run_command({"quantize", lora.path("base"), lora.path("small"), "--bits", "8"}));
  output_of(run_command({"convert", lora.path("small"), lora.path("floats"), "--dequantize"}));
  fs::remove_all(lora.run / "base");
  fs::rename(lora.run / "small", lora.run / "base");
  output_of(lora.train("quantized"));
  fs::remove_all(lora.run / "base");
  fs::rename(lora.run / "floats", lora.run / "base");
  output_of(lora.train("dequantized"));
  CHECK(adapter_bytes(lora.run / "quantized") == adapter_bytes(lora.run / "dequantized"));
}

TEST_CASE("bdh train --lora: a checkpoint exported is the merged model, and none of PyTorch's") {
  const LoraRun lora;
  output_of(lora.train("out"));
  output_of(run_command({"checkpoints", lora.path("out"), "--export", "latest", lora.path("exported")}));
  CHECK(tensors_of(lora.run / "exported") == tensors_of(lora.run / "out" / "final_merged"));
  check_failure(run_command({"checkpoints", lora.path("out"), "--to-torch", lora.path("out.pt")}), 1,
                "is of a LoRA adapter");
  fs::remove(lora.run / "out" / "options.json");
  check_failure(run_command({"checkpoints", lora.path("out"), "--export", "latest", lora.path("other")}), 1,
                "does not say whose adapter it is");
}

TEST_CASE("bdh train --lora: what cannot be done is one line") {
  const LoraRun lora;
  check_failure(lora.train("out", {"--lora-dropout", "0.1"}), 2, "lora_dropout must be 0");
  check_failure(lora.train("out", {"--lora-targets", "q_proj"}), 1, "no parameter 'q_proj'");
  check_failure(run_command({"train", "--out", lora.path("out"), "--data", lora.run.text(), "--lora"}), 2,
                "name it as --from");
  check_failure(
      run_command({"train", "--out", lora.path("out"), "--data", lora.run.text(), "--lora-rank", "4"}), 1,
      "set lora to train one");
  check_failure(
      run_command({"train", "--out", lora.path("out"), "--data", lora.run.text(), "--adapter", "x"}), 2,
      "--adapter is where --lora starts");
  output_of(lora.train("out"));
  check_failure(lora.train("out"), 1, "a run is there already");
  fs::remove_all(lora.run / "out" / "checkpoints");
  check_failure(lora.train("out"), 1, "a trained model is there already");
}
