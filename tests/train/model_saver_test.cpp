// ModelSaver: a checkpoint as a model directory that says how it came about.
#include "bdh/train/model_saver.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "bdh/train/options.h"
#include "tests/support/checkpoints.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

using namespace bdh;
using test::checkpoint_at;
using test::read_file;
using test::same_bits;
using test::TemporaryDirectory;
using test::Thrown;
using test::thrown_by;
namespace fs = std::filesystem;

namespace {

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

Json json_of(const fs::path& path) { return Json::parse(read_file(path), path.string()); }

/// After a step with a validation, of a run with a horizon.
Checkpoint some_checkpoint() {
  Checkpoint checkpoint = checkpoint_at(30);
  TrainOptions options;
  options.block = 64;
  options.horizon = {48};
  checkpoint.state.options = options.to_json();
  checkpoint.state.history = Json::parse(
      R"([{"step": 20, "loss": 3.0, "valid_loss": 3.5},
          {"step": 30, "loss": 2.0, "valid_loss": 2.5000001, "valid_bits_per_byte": 3.6, "ema_valid_loss": 2.25}])",
      "");
  checkpoint.state.tokens = 61440;
  checkpoint.state.seconds = 12.345;
  checkpoint.state.data_hash = std::string(64, 'd');
  return checkpoint;
}

TrainingFacts some_facts() {
  TrainingFacts facts;
  facts.name = "poet";
  facts.version = "v1.2";
  facts.dataset = "plays.txt";
  facts.hardware = "cpu, 2 threads";
  facts.command = "bdh train --data plays.txt --out poet";
  return facts;
}

ModelSaver saver(SaveOptions options = {}) {
  return ModelSaver(std::make_shared<ByteTokenizer>(), {{}, kBytesKind, {}}, std::move(options));
}

}  // namespace

TEST_CASE("model saver: the directory loads as the checkpoint, and tells of it") {
  const TemporaryDirectory directory;
  const Checkpoint checkpoint = some_checkpoint();
  TrainingFacts facts = some_facts();
  facts.curve = directory.write("curve", "<svg/>\n");
  CHECK(saver().save(directory / "m", checkpoint, false, facts).empty());
  const Model model = Model::from_pretrained(directory / "m");
  CHECK(model.warnings.empty());
  CHECK(same_bits(model.weights->state_dict(), checkpoint.weights));
  CHECK(model.block_size() == 64);
  CHECK(model.generation.horizon == std::vector<float>{48});
  CHECK(model.generation.max_new_tokens == 100);

  const Json args = json_of(directory / "m/training_args.json");
  CHECK(args.as_object().front().first == "block_size");
  CHECK_FALSE(args.find("block"));
  for (const char* key : {"batch", "steps", "lr", "schedule", "seed", "horizon", "dtype"})
    CHECK_MESSAGE(args.find(key), std::string(key));

  const Json told = json_of(directory / "m/training_metadata.json");
  CHECK(told.find("version")->as_string() == "v1.2");
  CHECK(told.find("weights")->as_string() == "last");
  CHECK(told.find("step")->as_integer() == 30);
  CHECK(told.find("tokens")->as_integer() == 61440);
  CHECK(told.find("seconds")->as_number() == 12.345);
  CHECK(told.find("metrics")->dump() ==
        R"({"loss": 2.0, "valid_loss": 2.5000001, "valid_bits_per_byte": 3.6})");
  CHECK(told.find("history")->as_array().size() == 2);
  CHECK(told.find("dataset_sha256")->as_string() == std::string(64, 'd'));
  CHECK(read_file(directory / "m/training.svg") == "<svg/>\n");

  const std::string card = read_file(directory / "m/README.md");
  for (const char* part :
       {"# poet\n", "| `version` | v1.2 |", "| `dataset` | plays.txt |", "| `steps` | 30 |",
        "| `tokens` | 61440 |", "| `seconds` | 12.0 |", "| `hardware` | cpu, 2 threads |",
        "| `valid_loss` | 2.5 |", "![Loss by step](training.svg)",
        "```sh\nbdh train --data plays.txt --out poet\n```", "| `block_size` | 64 |",
        "| trained on blocks of | 64 tokens |", "| horizon | 48 tokens"})
    CHECK_MESSAGE(has(card, part), std::string(part));
  CHECK_FALSE(has(card, "| `command` |"));
}

TEST_CASE("model saver: the average, and what is missing") {
  const TemporaryDirectory directory;
  Checkpoint checkpoint = some_checkpoint();
  saver().save(directory / "m", checkpoint, true, {});
  TensorMap average = checkpoint.ema;
  average.insert(*checkpoint.weights.find("attn.freqs"));
  CHECK(same_bits(Model::from_pretrained(directory / "m").weights->state_dict(), average));
  CHECK(json_of(directory / "m/training_metadata.json").find("weights")->as_string() == "average");
  CHECK(json_of(directory / "m/training_metadata.json").find("metrics")->dump() == R"({"valid_loss": 2.25})");
  CHECK_FALSE(json_of(directory / "m/training_metadata.json").find("version"));
  CHECK_FALSE(fs::exists(directory / "m/training.svg"));
  CHECK_FALSE(has(read_file(directory / "m/README.md"), "training.svg"));
  checkpoint.ema.clear();
  const Thrown none = thrown_by([&] { saver().save(directory / "n", checkpoint, true, {}); });
  CHECK(none.kind == ErrorKind::invalid_argument);
  CHECK(none.says("step 30 has no average"));
  CHECK_FALSE(fs::exists(directory / "n"));
}

TEST_CASE("model saver: versions") {
  const TemporaryDirectory directory;
  TrainingFacts facts;
  for (const char* version : {"1.0", "v1", "v1.", "v.1", "v1.0.0.0", "v1.0-x", "v", "v1..0", "v1.0 "}) {
    facts.version = version;
    CHECK_MESSAGE(thrown_by([&] {
                    saver().save(directory / "m", some_checkpoint(), false, facts);
                  }).says("must be as v1.0"),
                  std::string(version));
  }
  for (const char* version : {"v0.1", "v10.25.3"}) {
    facts.version = version;
    CHECK_NOTHROW(saver().save(directory / "m", some_checkpoint(), false, facts));
  }
}

TEST_CASE("model saver: a model that stood there is replaced with all that tells of it") {
  const TemporaryDirectory directory;
  TrainingFacts facts = some_facts();
  facts.curve = directory.write("curve", "<svg/>\n");
  saver().save(directory / "m", some_checkpoint(), false, facts);
  directory.write("m/notes.txt", "mine");
  facts.curve.clear();
  Checkpoint plain = some_checkpoint();
  plain.state.options = TrainOptions().to_json();
  saver().save(directory / "m", plain, false, facts);
  CHECK_FALSE(fs::exists(directory / "m/training.svg"));
  CHECK(Model::from_pretrained(directory / "m").generation.horizon.empty());
  CHECK(read_file(directory / "m/notes.txt") == "mine");
}

TEST_CASE("model saver: what tells of training is kept when the model is saved again") {
  const TemporaryDirectory directory;
  TrainingFacts facts = some_facts();
  facts.curve = directory.write("curve", "<svg/>\n");
  saver().save(directory / "m", some_checkpoint(), false, facts);
  const std::string told = read_file(directory / "m/training_metadata.json");
  SaveOptions options;
  options.overwrite = true;
  for (const char* target : {"m", "n"}) {
    Model::from_pretrained(directory / "m").save_pretrained(directory / target, options);
    CHECK(read_file(directory / target / "training_metadata.json") == told);
    CHECK(read_file(directory / target / "training.svg") == "<svg/>\n");
    CHECK(has(read_file(directory / target / "README.md"), "![Loss by step](training.svg)"));
  }
  options.training_files = {{"other.txt", ""}};
  CHECK(thrown_by([&] {
          Model::from_pretrained(directory / "m").save_pretrained(directory / "n", options);
        }).says("training_metadata.json"));
}

TEST_CASE("model saver: the caller's options and fields go with it") {
  const TemporaryDirectory directory;
  SaveOptions options;
  options.huggingface = true;
  options.details = Json::parse(R"({"license": "mit", "metrics": {"mine": 1}})", "");
  options.generation.emplace().max_new_tokens = 7;
  saver(options).save(directory / "m", some_checkpoint(), false, some_facts());
  const Model model = Model::from_pretrained(directory / "m");
  CHECK(model.generation.max_new_tokens == 7);
  CHECK(model.generation.horizon == std::vector<float>{48});
  CHECK(json_of(directory / "m/metadata.json").find("metrics")->dump() == R"({"mine": 1})");
  CHECK(has(read_file(directory / "m/README.md"), "license: mit\n"));
  CHECK(json_of(directory / "m/config.json").find("auto_map"));
}
