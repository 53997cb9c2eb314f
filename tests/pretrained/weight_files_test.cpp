// Weights in each form that a model directory may have, and the order in which they are looked for. What
// needs PyTorch files is skipped in builds that read none.
#include "bdh/pretrained/weight_files.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <string>

#include "bdh/base/error.h"
#include "bdh/pretrained/convert.h"
#include "bdh/pretrained/model.h"
#include "bdh/pretrained/torch_support.h"
#include "tests/support/models.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using bdh::ErrorKind;
using bdh::find_weights;
using bdh::Model;
using bdh::TensorMap;
using bdh::test::same_bits;
using bdh::test::TemporaryDirectory;
using bdh::test::Thrown;
using bdh::test::thrown_by;
using bdh::test::tiny_config;
using bdh::test::write_file;
using bdh::test::write_model;

const fs::path kCheckpoints = fs::path(bdh::test::kTestData) / "checkpoints";

bool reads_torch() {
  static const bool reads =
      thrown_by([] { bdh::open_torch_file("/nowhere.pt"); }).kind != ErrorKind::unsupported;
  return reads;
}

void check_same(const TensorMap& found, const TensorMap& expected) {
  REQUIRE(found.size() == expected.size());
  for (const auto& entry : expected)
    CHECK_MESSAGE(same_bits(found.at(entry.first), entry.second), entry.first);
}

std::string chosen(const TemporaryDirectory& directory, const std::string& format = "auto") {
  return find_weights(directory.path(), nullptr, format).source.filename().string();
}

void save_as_torch(const TemporaryDirectory& directory, uint64_t max_shard_size, bool huggingface = false) {
  TemporaryDirectory source;
  write_model(source.path());
  bdh::SaveOptions options;
  options.safe_serialization = false;
  options.overwrite = true;
  options.max_shard_size = max_shard_size;
  options.huggingface = huggingface;
  Model::from_pretrained(source.path()).save_pretrained(directory.path(), options);
}

}  // namespace

TEST_CASE("weights: formats that are asked for, and those that there are") {
  TemporaryDirectory directory;
  CHECK(thrown_by([&] { chosen(directory); }).says("has no weights; it needs model.safetensors"));
  CHECK(thrown_by([&] { chosen(directory, "pt"); }).says("it needs model.pt"));
  CHECK(thrown_by([&] { chosen(directory, "gguf"); }).kind == ErrorKind::invalid_argument);
  write_model(directory.path());
  CHECK(chosen(directory) == "model.safetensors");
  CHECK(chosen(directory, "safetensors") == "model.safetensors");
  CHECK(thrown_by([&] { chosen(directory, "pt"); }).kind == ErrorKind::not_found);
}

TEST_CASE("weights: a build without the part for PyTorch files says so") {
  if (reads_torch()) return;
  for (const char* name : {"model.pt", "pytorch_model.bin"}) {
    TemporaryDirectory directory;
    write_file(directory / "config.json", "{}");
    write_file(directory / name, "PK");
    const Thrown error = thrown_by([&] { Model::from_pretrained(directory.path()); });
    CHECK(error.kind == ErrorKind::unsupported);
    CHECK_MESSAGE(error.says("BDH_TORCH=ON"), error.message);
  }
}

TEST_CASE("weights: model.pt, pytorch_model.bin and its shards come back bit for bit") {
  if (!reads_torch()) return;
  const TensorMap expected = bdh::random_state_dict(tiny_config(), 7);
  TemporaryDirectory directory;
  save_as_torch(directory, UINT64_MAX);
  CHECK(chosen(directory) == "model.pt");
  check_same(Model::from_pretrained(directory.path()).weights->state_dict(), expected);
  save_as_torch(directory, 3000);
  CHECK(chosen(directory) == "pytorch_model.bin.index.json");
  CHECK_FALSE(fs::exists(directory / "model.pt"));
  bdh::LoadOptions verify;
  verify.verify = true;
  check_same(Model::from_pretrained(directory.path(), verify).weights->state_dict(), expected);
  save_as_torch(directory, UINT64_MAX, true);
  CHECK(chosen(directory) == "pytorch_model.bin");
  check_same(Model::from_pretrained(directory.path()).weights->state_dict(), expected);
}

TEST_CASE("weights: the order in which they are looked for") {
  if (!reads_torch()) return;
  TemporaryDirectory directory, shards;
  write_model(directory.path());
  save_as_torch(shards, 3000);
  for (const auto& entry : fs::directory_iterator(shards.path()))
    fs::copy(entry.path(), directory.path(), fs::copy_options::skip_existing);
  bdh::convert_weights(find_weights(directory.path()), directory / "model.pt");
  bdh::convert_weights(find_weights(directory.path()), directory / "pytorch_model.bin");
  std::vector<std::string> warnings;
  find_weights(directory.path(), &warnings);
  REQUIRE(warnings.size() == 1);
  CHECK_MESSAGE(
      warnings[0].find("reads model.safetensors and ignores model.pt, pytorch_model.bin, "
                       "pytorch_model.bin.index.json (an older save's, by its look)") != std::string::npos,
      warnings[0]);
  for (const char* name :
       {"model.safetensors", "model.pt", "pytorch_model.bin", "pytorch_model.bin.index.json"}) {
    CHECK(chosen(directory) == name);
    fs::remove(directory / name);
  }
}

TEST_CASE("weights: a training checkpoint brings its own config, its weights under prefixes") {
  if (!reads_torch()) return;
  TemporaryDirectory directory;
  fs::copy(kCheckpoints / "checkpoint.pt", directory / "model.pt");
  const Model model = Model::from_pretrained(directory.path());
  CHECK(model.config().n_embd == 4);
  CHECK(model.config().vocab_size == 5);
  const auto expected = bdh::SafetensorsFile::open(kCheckpoints / "expected.safetensors");
  TensorMap tensors;
  for (const bdh::TensorInfo& info : expected.tensors()) tensors[info.name] = expected.tensor(info.name);
  check_same(model.weights->state_dict(), tensors);
  check_same(Model::from_weights_file(directory / "model.pt").weights->state_dict(), tensors);
  bdh::convert_weights(bdh::open_weights_file(directory / "model.pt"), directory / "out.safetensors");
  const auto converted = bdh::open_weights_file(directory / "out.safetensors");
  check_same(converted.state_dict(), tensors);
  CHECK(converted.metadata().at("format") == "pt");
}

TEST_CASE("weights: a training checkpoint whose layers have weights of their own") {
  if (!reads_torch()) return;
  TemporaryDirectory directory;
  fs::copy(kCheckpoints / "untied_layers.pt", directory / "model.pt");
  const Model model = Model::from_pretrained(directory.path());
  CHECK_FALSE(model.config().tie_layers);
  CHECK(model.weights->state_dict().contains("encoder.1"));
  model.save_pretrained(directory / "saved");
  const Model saved = Model::from_pretrained(directory / "saved");
  CHECK(saved.config().to_json() == model.config().to_json());
  check_same(saved.weights->state_dict(), model.weights->state_dict());
}

TEST_CASE("weights: a PyTorch file without config, alone in its directory") {
  if (!reads_torch()) return;
  TemporaryDirectory directory;
  save_as_torch(directory, UINT64_MAX);
  fs::remove(directory / "config.json");
  const Thrown error = thrown_by([&] { Model::from_pretrained(directory.path()); });
  CHECK(error.kind == ErrorKind::not_found);
  CHECK_MESSAGE(error.says("has no config.json"), error.message);
}

TEST_CASE("weights: converting derives attn.freqs where it is missing or rounded") {
  TemporaryDirectory directory;
  TensorMap tensors = bdh::random_state_dict(tiny_config(), 7);
  const TensorMap expected = tensors;
  for (const bool missing : {true, false}) {
    tensors["attn.freqs"] = bdh::converted(expected.at("attn.freqs"), bdh::DType::f16);
    if (missing) tensors.erase("attn.freqs");
    bdh::write_safetensors(directory / "in.safetensors", tensors, {});
    bdh::convert_weights(bdh::open_weights_file(directory / "in.safetensors"), directory / "out.safetensors");
    check_same(bdh::open_weights_file(directory / "out.safetensors").state_dict(), expected);
  }
}
