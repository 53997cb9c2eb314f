// The model directory: what loads, and the one clear error for each thing that does not.
#include "bdh/pretrained/model.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/model/weights.h"
#include "bdh/pretrained/lazy_model.h"
#include "kernels/backends.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

namespace {

using bdh::ErrorKind;
using bdh::Model;
using bdh::TensorMap;
using bdh::test::TemporaryDirectory;
using bdh::test::tiny_config;
using bdh::test::write_file;
using bdh::test::write_model;

void check_error(ErrorKind kind, std::string_view part, const std::function<void()>& action) {
  const bdh::test::Thrown error = bdh::test::thrown_by(action);
  CHECK_MESSAGE(error.kind == kind, error.message);
  CHECK_MESSAGE(error.says(part), error.message);
  CHECK_MESSAGE(!error.says("\n"), error.message);
}

void check_refused(const TemporaryDirectory& directory, ErrorKind kind, std::string_view part) {
  check_error(kind, part, [&] { Model::from_pretrained(directory.path()); });
}

std::vector<float> logits_of(const Model& model) {
  return bdh::Session(model.weights).read(std::vector<int32_t>{1, 2, 3});
}

/// The tiny model in two shards, with an index that says so.
void write_shards(const TemporaryDirectory& directory, std::string_view second_shard = "b.safetensors") {
  write_file(directory / "config.json", tiny_config().to_json().dump());
  TensorMap all = bdh::random_state_dict(tiny_config(), 7), first, second;
  bdh::Json map;
  for (const auto& [name, tensor] : all) {
    const bool in_first = name < "embed";
    (in_first ? first : second)[name] = tensor;
    map.set(name, in_first ? std::string_view("a.safetensors") : second_shard);
  }
  bdh::write_safetensors(directory / "a.safetensors", first, {});
  bdh::write_safetensors(directory / "b.safetensors", second, {});
  bdh::Json index;
  index.set("weight_map", map);
  write_file(directory / "model.safetensors.index.json", index.dump());
}

}  // namespace

TEST_CASE("model: a directory with config and weights loads without a warning") {
  TemporaryDirectory directory;
  write_model(directory.path());
  const Model model = Model::from_pretrained(directory.path());
  CHECK(model.warnings.empty());
  CHECK(model.config().n_embd == 16);
  CHECK(model.tokenizer != nullptr);
  CHECK(model.generation.max_new_tokens == 100);
  CHECK(logits_of(model).size() == 256);
}

TEST_CASE("model: shards give the same logits as one file") {
  TemporaryDirectory whole, sharded;
  write_model(whole.path());
  write_shards(sharded);
  const Model model = Model::from_pretrained(sharded.path());
  CHECK(model.warnings.empty());
  CHECK(logits_of(model) == logits_of(Model::from_pretrained(whole.path())));
  CHECK(bdh::find_weights(sharded.path()).files.size() == 2);
}

TEST_CASE("model: a single file wins over an index, with a warning") {
  TemporaryDirectory directory;
  write_model(directory.path());
  write_shards(directory);
  write_file(directory / "model.pt", "");
  const Model model = Model::from_pretrained(directory.path());
  REQUIRE(model.warnings.size() == 1);
  CHECK(model.warnings[0].find("reads model.safetensors and ignores model.safetensors.index.json") !=
        std::string::npos);
}

TEST_CASE("model: shard names must be plain and their tensors present") {
  for (const char* name : {"../b.safetensors", "/etc/passwd", "sub/b.safetensors", "..", ".", "", "a\\b"}) {
    CAPTURE(name);
    TemporaryDirectory directory;
    write_shards(directory, name);
    check_refused(directory, ErrorKind::bad_file, "not a plain file name");
  }
  TemporaryDirectory missing;
  write_shards(missing, "c.safetensors");
  check_refused(missing, ErrorKind::not_found, "c.safetensors");
  TemporaryDirectory elsewhere;
  write_shards(elsewhere, "a.safetensors");
  check_refused(elsewhere, ErrorKind::bad_file, "should be in 'a.safetensors' but is not");
}

TEST_CASE("model: a tensor that stands in two shards") {
  TemporaryDirectory directory;
  write_shards(directory);
  const bdh::TensorMap expected = Model::from_pretrained(directory.path()).weights->state_dict();
  bdh::write_safetensors(directory / "b.safetensors", bdh::random_state_dict(tiny_config(), 8), {});
  const bdh::TensorMap found = Model::from_pretrained(directory.path()).weights->state_dict();
  const std::map<std::string, std::string> index =
      bdh::read_shard_index(directory / "model.safetensors.index.json");
  for (const auto& [name, file] : index) {
    if (file == "a.safetensors")
      CHECK(bdh::test::same_bits({{name, found.at(name)}}, {{name, expected.at(name)}}));
  }
}

TEST_CASE("model: missing pieces") {
  TemporaryDirectory directory;
  check_error(ErrorKind::not_found, "no such file or directory",
              [&] { Model::from_pretrained(directory / "nowhere"); });
  check_refused(directory, ErrorKind::not_found, "no config.json");
  write_file(directory / "config.json", "{}");
  check_refused(directory, ErrorKind::not_found, "has no weights");
  check_error(ErrorKind::bad_file, "is not a PyTorch file",
              [&] { Model::from_pretrained(directory / "config.json"); });
}

TEST_CASE("model: hostile config.json") {
  TemporaryDirectory directory;
  write_model(directory.path());
  write_file(directory / "config.json", R"({"n_layer": 1000000000000000000})");
  check_refused(directory, ErrorKind::bad_file, "n_layer");
  write_file(directory / "config.json", R"({"n_embd": 1048576, "mlp_internal_dim_multiplier": 64})");
  check_refused(directory, ErrorKind::bad_file,
                "model.safetensors");  // terabytes by config, kilobytes on disk
  write_file(directory / "config.json", std::string(17'000'000, ' '));
  check_refused(directory, ErrorKind::bad_file, "config.json");
  write_file(directory / "config.json", "{\"n_layer\": 2");
  check_refused(directory, ErrorKind::bad_file, "config.json");
}

TEST_CASE("model: weights cut short, at every kind of place") {
  TemporaryDirectory directory;
  write_model(directory.path());
  const std::string whole = bdh::test::read_file(directory / "model.safetensors");
  for (const size_t bytes :
       {size_t{0}, size_t{4}, size_t{8}, size_t{100}, whole.size() / 2, whole.size() - 1}) {
    CAPTURE(bytes);
    write_file(directory / "model.safetensors", std::string_view(whole).substr(0, bytes));
    check_refused(directory, ErrorKind::bad_file, "model.safetensors");
  }
}

TEST_CASE("model: a newer format version warns and loads") {
  TemporaryDirectory directory;
  write_model(directory.path());
  const auto state_dict = bdh::random_state_dict(tiny_config(), 7);
  for (const char* version : {"2", "two", "", "99999999999999999999"}) {
    bdh::write_safetensors(directory / "model.safetensors", state_dict, {{"format_version", version}});
    const Model model = Model::from_pretrained(directory.path());
    CHECK_MESSAGE(model.warnings.size() == 1, version);
  }
}

TEST_CASE("model: generation_config.json gives the defaults") {
  TemporaryDirectory directory;
  write_model(directory.path());
  write_file(directory / "generation_config.json", R"({"max_new_tokens": 7})");
  CHECK(Model::from_pretrained(directory.path()).generation.max_new_tokens == 7);
  write_file(directory / "generation_config.json", R"({"max_new_tokens": "many"})");
  check_refused(directory, ErrorKind::bad_file, "generation_config.json");
  write_file(directory / "generation_config.json", std::string(1'100'000, ' '));
  check_refused(directory, ErrorKind::bad_file, "generation_config.json");
}

TEST_CASE("model: config.json says which tokens end a text where there is no generation_config.json") {
  TemporaryDirectory directory;
  bdh::Config config = tiny_config();
  config.extra = {{"eos_token_id", 3}, {"pad_token_id", 5}};
  write_model(directory.path(), config);
  const bdh::GenerationConfig generation = Model::from_pretrained(directory.path()).generation;
  CHECK(generation.eos == std::vector<int64_t>{3});
  CHECK(*generation.to_json().find("pad_token_id") == bdh::Json(5));
  write_file(directory / "generation_config.json", "{}");
  CHECK(Model::from_pretrained(directory.path()).generation.eos.empty());
}

TEST_CASE("model: an eos_token_id outside the vocabulary is a warning") {
  TemporaryDirectory directory;
  write_model(directory.path());
  write_file(directory / "generation_config.json", R"({"eos_token_id": [255, 256]})");
  const Model model = Model::from_pretrained(directory.path());
  REQUIRE(model.warnings.size() == 1);
  CHECK(model.warnings[0].find("eos_token_id 256") != std::string::npos);
}

TEST_CASE("model: without tokenizer.json only a byte vocabulary reads text; the files are kept in any case") {
  TemporaryDirectory directory;
  bdh::Config config = tiny_config();
  config.vocab_size = 300;
  write_model(directory.path(), config);
  const Model words = Model::from_pretrained(directory.path());
  CHECK(words.tokenizer == nullptr);
  CHECK(logits_of(words).size() == 300);
  write_model(directory.path());
  write_file(directory / "tokenizer.json", "{}");
  bdh::LoadOptions files_only;
  files_only.tokenizer = false;
  const Model kept = Model::from_pretrained(directory.path(), files_only);
  CHECK(kept.tokenizer == nullptr);
  CHECK(kept.warnings.empty());
  CHECK(kept.tokenizer_source.files.at("tokenizer.json") == "{}");
}

TEST_CASE("model: strict refuses tensors that are no part of a model") {
  TemporaryDirectory directory;
  write_model(directory.path());
  TensorMap tensors = bdh::random_state_dict(tiny_config(), 7);
  std::byte* data = nullptr;
  tensors["bias\n"] = bdh::make_tensor(bdh::DType::f32, {1}, &data);
  bdh::write_safetensors(directory / "model.safetensors", tensors, {});
  CHECK(Model::from_pretrained(directory.path()).warnings.size() == 1);
  bdh::LoadOptions strict;
  strict.strict = true;
  check_error(ErrorKind::bad_file, "'bias\\x0a' is not part of a BDH model",
              [&] { Model::from_pretrained(directory.path(), strict); });
  write_model(directory.path());
  CHECK_NOTHROW(Model::from_pretrained(directory.path(), strict));
}

TEST_CASE("model: very many layers with weights of their own, and files that hold only some") {
  TemporaryDirectory directory;
  const int64_t layers = bdh::test::unless_slow(65536, 4096);
  const bdh::Config config = bdh::test::untied(bdh::test::config_of(layers, 2, 1, 1, 2));
  const std::string last = "encoder_v." + std::to_string(layers - 1);
  TensorMap tensors = bdh::random_state_dict(config, 7);
  write_file(directory / "config.json", config.to_json().dump());
  bdh::write_safetensors(directory / "model.safetensors", tensors, {});
  bdh::LoadOptions strict;
  strict.strict = true;
  CHECK(Model::from_pretrained(directory.path(), strict).config().parameters() == layers * 12 + 8);
  tensors.erase(last);
  bdh::write_safetensors(directory / "model.safetensors", tensors, {});
  check_refused(directory, ErrorKind::bad_file, "tensor '" + last + "' is missing");
}

TEST_CASE("model: a single weights file, with the config beside it or named") {
  TemporaryDirectory directory, elsewhere;
  write_model(directory.path());
  const Model beside = Model::from_weights_file(directory / "model.safetensors");
  CHECK(logits_of(beside) == logits_of(Model::from_pretrained(directory.path())));
  CHECK(beside.tokenizer != nullptr);
  std::filesystem::rename(directory / "config.json", elsewhere / "sizes.json");
  check_error(ErrorKind::not_found, "--config FILE",
              [&] { Model::from_weights_file(directory / "model.safetensors"); });
  const Model named = Model::from_weights_file(directory / "model.safetensors", elsewhere / "sizes.json");
  CHECK(logits_of(named) == logits_of(beside));
}

TEST_CASE("model: loaded at its first use, by whichever thread comes first") {
  TemporaryDirectory directory;
  const bdh::LazyModel lazy(directory.path());
  CHECK_FALSE(lazy.loaded());
  CHECK_THROWS_AS(lazy.get(), bdh::Error);
  write_model(directory.path());
  std::vector<std::shared_ptr<const Model>> found(4);
  std::vector<std::thread> threads;
  for (auto& model : found) threads.emplace_back([&] { model = lazy.get(); });
  for (std::thread& thread : threads) thread.join();
  CHECK(lazy.loaded());
  for (const auto& model : found) CHECK(model == found[0]);
  lazy.release();
  CHECK_FALSE(lazy.loaded());
  CHECK(lazy.get() != found[0]);
}

TEST_CASE("model: a weights file stands for its directory, and is named where nothing else is found") {
  TemporaryDirectory directory;
  write_model(directory.path());
  const Model whole = Model::from_pretrained(directory.path());
  const Model one = Model::from_pretrained(directory / "model.safetensors");
  CHECK(logits_of(one) == logits_of(whole));
  CHECK(bool(one.tokenizer) == bool(whole.tokenizer));
  std::filesystem::rename(directory / "model.safetensors", directory / "best.safetensors");
  check_refused(directory, ErrorKind::not_found, "give 'best.safetensors' itself");
  CHECK(logits_of(Model::from_pretrained(directory / "best.safetensors")) == logits_of(whole));
}

TEST_CASE("devices: auto and cpu are there; a GPU that is not is an error that says what to do") {
  CHECK(bdh::make_backend("auto", 1) != nullptr);
  CHECK(bdh::make_backend("cpu", 2)->name().starts_with("cpu"));
  CHECK_THROWS_WITH_AS(bdh::make_backend("cuda:4095", 0), doctest::Contains("--device cpu"), bdh::Error);
  for (const char* device : {"", "gpu", "cuda:", "cuda:x", "CPU"})
    check_error(ErrorKind::invalid_argument, "device", [&] { bdh::make_backend(device, 0); });
}
