// Validation: each thing that can be wrong with a model directory is found, and by the check that looks at
// it.
#include "bdh/pretrained/validate.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/model/weights.h"
#include "bdh/pretrained/model.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"

namespace {

using bdh::Check;
using bdh::TensorMap;
using bdh::validate;
using bdh::Verdict;
using bdh::test::TemporaryDirectory;
using bdh::test::tiny_config;
using bdh::test::write_file;
using bdh::test::write_model;

Check find(const std::vector<Check>& checks, const std::string& name) {
  const auto found =
      std::find_if(checks.begin(), checks.end(), [&](const Check& c) { return c.name == name; });
  REQUIRE(found != checks.end());
  return *found;
}

void check_failed(const TemporaryDirectory& directory, const std::string& name, const std::string& part) {
  const Check found = find(validate(directory.path()), name);
  CHECK_MESSAGE(found.verdict == Verdict::failed, found.detail);
  CHECK_MESSAGE(found.detail.find(part) != std::string::npos, found.detail);
}

void check_warned(const TemporaryDirectory& directory, const std::string& name, const std::string& part) {
  const Check found = find(validate(directory.path()), name);
  CHECK_MESSAGE(found.verdict == Verdict::warned, found.detail);
  CHECK_MESSAGE(found.detail.find(part) != std::string::npos, found.detail);
}

void write_weights(const TemporaryDirectory& directory, const TensorMap& tensors) {
  bdh::write_safetensors(directory / "model.safetensors", tensors, {{"format_version", "1"}});
}

bdh::Tensor filled(const bdh::Tensor& like, float value, int64_t at, float special) {
  std::byte* data = nullptr;
  bdh::Tensor tensor = bdh::make_tensor(bdh::DType::f32, like.shape, &data);
  std::vector<float> values(static_cast<size_t>(like.numel()), value);
  values[static_cast<size_t>(at)] = special;
  std::memcpy(data, values.data(), values.size() * sizeof(float));
  return tensor;
}

}  // namespace

TEST_CASE("validate: a sound directory passes every check") {
  TemporaryDirectory directory;
  write_model(directory.path());
  const bdh::Model model = bdh::Model::from_pretrained(directory.path());
  model.save_pretrained(directory / "saved");
  const std::vector<Check> checks = validate(directory / "saved");
  CHECK(checks.size() == 9);
  for (const Check& check : checks)
    CHECK_MESSAGE(check.verdict == Verdict::passed, check.name, ": ", check.detail);
}

TEST_CASE("validate: weights for each layer") {
  TemporaryDirectory directory;
  write_model(directory.path(), bdh::test::untied(bdh::test::tiny_config()));
  const std::vector<Check> checks = validate(directory.path());
  CHECK(checks[1].detail.starts_with("2 layers with weights of their own, width 16"));
  CHECK(std::none_of(checks.begin(), checks.end(),
                     [](const Check& check) { return check.verdict == Verdict::failed; }));
}

TEST_CASE("validate: without hashes they are skipped") {
  TemporaryDirectory directory;
  write_model(directory.path());
  CHECK(find(validate(directory.path()), "hashes").verdict == Verdict::skipped);
}

TEST_CASE("validate: what depends on something that failed is skipped") {
  TemporaryDirectory directory;
  const std::vector<Check> checks = validate(directory / "nowhere");
  CHECK(find(checks, "files").verdict == Verdict::failed);
  for (const Check& check : checks) CHECK((check.name == "files" || check.verdict == Verdict::skipped));
}

TEST_CASE("validate: files, config and settings that are missing or broken") {
  TemporaryDirectory directory;
  check_failed(directory, "files", "holds no file of a model");
  write_model(directory.path());
  write_file(directory / "generation_config.json", R"({"temperature": -1})");
  check_failed(directory, "settings", "temperature");
  write_file(directory / "generation_config.json", R"({"eos_token_id": 256})");
  check_warned(directory, "settings", "eos_token_id 256");
  write_file(directory / "generation_config.json", R"({"max_time": 2})");
  check_warned(directory, "settings", "max_time 2 has no effect");
  write_file(directory / "generation_config.json", R"({"num_beams": 2})");
  check_failed(directory, "generation", "num_beams 2");
  write_file(directory / "generation_config.json", R"({"bad_words_ids": [[1, 256]]})");
  check_failed(directory, "generation", "token 256 is outside the vocabulary");
  write_file(directory / "config.json", R"({"n_layer": 0})");
  check_failed(directory, "config", "n_layer");
  std::filesystem::remove(directory / "model.safetensors");
  check_failed(directory, "weights", "has no weights");
}

TEST_CASE("validate: tensors of another shape") {
  TemporaryDirectory directory;
  write_model(directory.path());
  bdh::Config other = tiny_config();
  other.n_embd = 32;
  write_file(directory / "config.json", other.to_json().dump(2));
  check_failed(directory, "tensors", "config.json makes it");
}

TEST_CASE("validate: NaN and infinity are found where they are") {
  TemporaryDirectory directory;
  write_model(directory.path());
  TensorMap tensors = bdh::random_state_dict(tiny_config(), 7);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    tensors["encoder_v"] = filled(tensors["encoder_v"], 0.5f, 77, bad);
    write_weights(directory, tensors);
    check_failed(directory, "values", "'encoder_v' has 1 numbers that are NaN or infinite, the first at 77");
  }
  tensors["encoder_v"] = filled(tensors["encoder_v"], 0.0f, 0, 0.0f);
  write_weights(directory, tensors);
  CHECK(find(validate(directory.path()), "values").verdict == Verdict::warned);
}

TEST_CASE("validate: a byte changed since the directory was saved") {
  TemporaryDirectory directory;
  write_model(directory.path());
  bdh::Model::from_pretrained(directory.path()).save_pretrained(directory / "saved");
  std::string bytes = bdh::test::read_file(directory / "saved/model.safetensors");
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_file(directory / "saved/model.safetensors", bytes);
  const Check found = find(validate(directory / "saved"), "hashes");
  CHECK_MESSAGE(found.verdict == Verdict::failed, found.detail);
  CHECK(found.detail.find("model.safetensors") != std::string::npos);
}

TEST_CASE("validate: stops when asked to") {
  TemporaryDirectory directory;
  write_model(directory.path());
  bdh::ValidateOptions options;
  options.progress = [](uint64_t, uint64_t) { return false; };
  CHECK_THROWS_AS(validate(directory.path(), options), bdh::Error);
}
