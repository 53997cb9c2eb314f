// `bdh convert`: forms, options, refusals, and a directory that is never a mixture, killed or not. Runs the
// built program.

#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/json.h"
#include "bdh/pretrained/directory_update.h"
#include "bdh/pretrained/model.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/running_command.h"
#include "tests/support/soak.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using bdh::Json;
using bdh::Model;
using bdh::test::CommandResult;
using bdh::test::read_file;
using bdh::test::run_command;
using bdh::test::signalled_after;
using bdh::test::TemporaryDirectory;
using bdh::test::thrown_by;
using bdh::test::tiny_config;
using bdh::test::write_file;
using bdh::test::write_model;

constexpr int kKills = 20;

CommandResult convert(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "convert");
  return run_command(arguments);
}

Json json_of(const fs::path& path) { return Json::parse(read_file(path), path.string()); }

std::map<std::string, std::string> contents(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::directory_iterator(directory))
    if (entry.is_regular_file() && entry.path().filename() != "metadata.json")
      files[entry.path().filename().string()] = read_file(entry.path());
  return files;
}

std::chrono::microseconds time_of(const std::vector<std::string>& arguments) {
  const auto before = std::chrono::steady_clock::now();
  REQUIRE(run_command(arguments).exit_code == 0);
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - before);
}

}  // namespace

TEST_CASE("bdh convert: a directory to shards, with metadata and training args, and back") {
  TemporaryDirectory directory;
  write_model(directory / "." / "");
  write_file(directory / "args.json", R"({"max_iters": 3000})");
  write_file(directory / "facts.json", R"({"license": "mit"})");
  const std::string source = directory.path().string(), shards = (directory / "shards").string(),
                    whole = (directory / "whole").string();
  const CommandResult split =
      convert({source, shards, "--max-shard-size", "3KB", "--metadata", "a=1", "--metadata", "b=x=y",
               "--training-args", (directory / "args.json").string(), "--details",
               (directory / "facts.json").string()});
  REQUIRE_MESSAGE(split.exit_code == 0, split.err);
  CHECK(split.err.empty());
  CHECK(fs::exists(directory / "shards" / "model.safetensors.index.json"));
  CHECK(json_of(directory / "shards" / "training_args.json").find("max_iters")->as_integer() == 3000);
  CHECK(json_of(directory / "shards" / "metadata.json").find("license")->as_string() == "mit");
  CHECK(Model::from_pretrained(shards).metadata == bdh::Metadata{{"a", "1"}, {"b", "x=y"}});
  REQUIRE(convert({shards, whole, "--no-card"}).exit_code == 0);
  CHECK_FALSE(fs::exists(directory / "whole" / "README.md"));
  const auto before = bdh::SafetensorsFile::open(directory / "model.safetensors");
  const auto after = bdh::SafetensorsFile::open(directory / "whole" / "model.safetensors");
  CHECK(read_file(before.path()).substr(before.data_offset()) ==
        read_file(after.path()).substr(after.data_offset()));
}

TEST_CASE("bdh convert: single files") {
  TemporaryDirectory directory;
  write_model(directory.path());
  const std::string file = (directory / "model.safetensors").string(),
                    half = (directory / "half.safetensors").string();
  REQUIRE(convert({file, half, "--dtype", "bf16", "--metadata", "k=v"}).exit_code == 0);
  const auto written = bdh::SafetensorsFile::open(half);
  CHECK(written.tensor("encoder").dtype == bdh::DType::bf16);
  CHECK(written.tensor("attn.freqs").dtype == bdh::DType::f32);
  CHECK(written.metadata().at("k") == "v");
  const CommandResult again = convert({file, half});
  CHECK(again.exit_code == 1);
  CHECK(again.err.find("--overwrite") != std::string::npos);
  CHECK(convert({directory.path().string(), half, "--overwrite"}).exit_code == 0);
  CHECK(bdh::SafetensorsFile::open(half).tensor("encoder").dtype == bdh::DType::f32);
  REQUIRE(convert({half, (directory / "m").string(), "--config", (directory / "config.json").string()})
              .exit_code == 0);
  CHECK(Model::from_pretrained(directory / "m").warnings.empty());
}

TEST_CASE("bdh convert: what it refuses") {
  TemporaryDirectory directory;
  write_model(directory.path());
  const std::string source = directory.path().string(), target = (directory / "out").string();
  const std::vector<std::vector<std::string>> wrong = {
      {source, target, "--metadata", "novalue"},   {source, target, "--metadata", "format=np"},
      {source, target, "--max-shard-size", "big"}, {source, target, "--training-args", "nowhere.json"},
      {source, target, "--config", "config.json"}, {source + "/none", target},
      {source, source + "/config.json/x"},         {source, source}};
  for (const auto& arguments : wrong) {
    const CommandResult result = convert(arguments);
    CHECK_MESSAGE(result.exit_code == 1, arguments.back());
    CHECK_MESSAGE(result.err.starts_with("bdh: error: "), result.err);
  }
  CHECK_FALSE(fs::exists(target));
  CHECK(convert({source, target, "--dtype", "i8"}).exit_code == 2);
  CHECK(convert({source}).exit_code == 2);
}

TEST_CASE("bdh convert: for transformers, and plain again") {
  TemporaryDirectory directory;
  write_model(directory.path());
  const std::string source = directory.path().string(), target = (directory / "hf").string();
  REQUIRE(convert({source, target, "--huggingface"}).exit_code == 0);
  CHECK(json_of(directory / "hf" / "config.json").find("auto_map") != nullptr);
  CHECK(fs::exists(directory / "hf" / "modeling_bdh.py"));
  CHECK(Model::from_pretrained(target).warnings.empty());
  REQUIRE(convert({target, (directory / "plain").string()}).exit_code == 0);
  CHECK(json_of(directory / "plain" / "config.json").as_object().size() == 6);
}

TEST_CASE("bdh convert: killed at any moment, the directory holds one model or none") {
  TemporaryDirectory directory;
  bdh::Config other = tiny_config();
  other.n_layer = 3;
  fs::create_directories(directory / "a"), fs::create_directories(directory / "b");
  write_model(directory / "a"), write_model(directory / "b", other);
  const std::string a = (directory / "a").string(), b = (directory / "b").string(),
                    target = (directory / "target").string();
  REQUIRE(convert({a, target, "--max-shard-size", "2KB"}).exit_code == 0);
  const auto old_files = contents(target);
  write_file(fs::path(target) / "notes.txt", "mine");
  const std::vector<std::string> replace{"convert", b, target, "--overwrite"};
  const std::vector<std::string> restore{"convert", a, target, "--overwrite", "--max-shard-size", "2KB"};
  const std::chrono::microseconds whole = time_of(replace);
  auto new_files = contents(target);
  REQUIRE(new_files.erase("notes.txt") == 1);
  std::mt19937 draw(std::random_device{}());
  int old_models = 0, new_models = 0, incomplete = 0;
  for (int i = 0; i < bdh::test::rounds(kKills); ++i) {
    REQUIRE(run_command(restore).exit_code == 0);
    signalled_after(whole * static_cast<int>(draw() % 1000) / 1000, SIGKILL, replace);
    bdh::test::Thrown failure;
    Model model;
    failure = thrown_by([&] { model = Model::from_pretrained(target); });
    if (failure.kind) {
      ++incomplete;
      CHECK_MESSAGE(failure.says("interrupted"), failure.message);
      CHECK_FALSE(fs::exists(fs::path(target) / "config.json"));
      bdh::complete_interrupted_update(target);
    }
    auto files = contents(target);
    CHECK(files.erase("notes.txt") == 1);
    const bool is_old = files == old_files, is_new = files == new_files;
    CHECK((is_old || is_new));
    if (!failure.kind) (is_old ? old_models : new_models) += 1;
  }
  MESSAGE(old_models << " old, " << new_models << " new, " << incomplete << " incomplete");
}
