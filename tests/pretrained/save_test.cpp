// Saving a model directory: what stands in it afterwards, and that it loads as the same model.
#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/sha256.h"
#include "bdh/formats/safetensors.h"
#include "bdh/model/weights.h"
#include "bdh/pretrained/metadata.h"
#include "bdh/pretrained/model.h"
#include "bdh/pretrained/quantize.h"
#include "kernels/backends.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using bdh::Config;
using bdh::DType;
using bdh::ErrorKind;
using bdh::Json;
using bdh::Model;
using bdh::SaveOptions;
using bdh::TensorMap;
using bdh::test::read_file;
using bdh::test::same_bits;
using bdh::test::TemporaryDirectory;
using bdh::test::Thrown;
using bdh::test::thrown_by;
using bdh::test::tiny_config;
using bdh::test::write_file;
using bdh::test::write_model;

Model model_of(const Config& config, uint64_t seed, DType dtype = DType::f32) {
  Model model;
  model.weights = std::make_shared<const bdh::Weights>(config, bdh::random_state_dict(config, seed, dtype),
                                                       bdh::make_backend("cpu", 1));
  return model;
}

std::set<std::string> files_in(const fs::path& directory) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory)) names.insert(entry.path().filename().string());
  return names;
}

Config random_config(std::mt19937& draw) {
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(draw);
  };
  Config config;
  do {
    config.n_layer = pick(1, 3), config.n_embd = pick(3, 20), config.n_head = pick(1, 4);
    config.mlp_internal_dim_multiplier = pick(1, 9), config.vocab_size = pick(2, 300);
  } while (config.neurons_per_head() < 2 || config.neurons_per_head() % 2 != 0);
  config.tie_layers = draw() % 2 == 0;
  return config;
}

SaveOptions overwriting() {
  SaveOptions options;
  options.overwrite = true;
  return options;
}

Json json_of(const fs::path& path) { return Json::parse(read_file(path), path.string()); }

}  // namespace

TEST_CASE("save: any model, dtype and shard size comes back bit for bit") {
  std::mt19937 draw(20251122);
  for (int round = 0; round < 30; ++round) {
    TemporaryDirectory directory;
    const Config config = random_config(draw);
    const DType dtype = std::array{DType::f64, DType::f32, DType::bf16, DType::f16}[draw() % 4];
    SaveOptions options;
    options.max_shard_size = std::array<uint64_t, 4>{1, 700, 5000, 5'000'000'000}[draw() % 4];
    const Model model = model_of(config, draw(), dtype);
    CHECK(model.save_pretrained(directory / "m", options).empty());
    const Model back = Model::from_pretrained(directory / "m");
    CHECK_MESSAGE(back.warnings.empty(), round);
    CHECK_MESSAGE(same_bits(back.weights->state_dict(), model.weights->state_dict()), round);
    CHECK(back.config().to_json() == config.to_json());
    bdh::LoadOptions verify;
    verify.verify = true, verify.strict = true;
    CHECK_NOTHROW(Model::from_pretrained(directory / "m", verify));
  }
}

TEST_CASE("save: the files of a directory, and what is in them") {
  TemporaryDirectory directory;
  Model model = model_of(tiny_config(), 1);
  model.generation.max_new_tokens = 7;
  SaveOptions options;
  options.metadata = {{"training_steps", "100"}};
  options.training_args.set("max_iters", 3000);
  options.details.set("metrics", Json::Object{{"loss", 1.5}});
  options.create_model_card = false;
  model.save_pretrained(directory.path(), options);
  CHECK(files_in(directory.path()) == std::set<std::string>{"config.json", "generation_config.json",
                                                            "metadata.json", "model.safetensors",
                                                            "training_args.json"});
  CHECK(
      json_of(directory / "config.json").dump() ==
      R"({"n_layer": 2, "n_embd": 16, "dropout": 0.1, "n_head": 2, "mlp_internal_dim_multiplier": 4, "vocab_size": 256})");
  CHECK(json_of(directory / "generation_config.json").dump() ==
        R"({"max_new_tokens": 7, "temperature": 0.8, "top_k": 50, "top_p": 0.95, "do_sample": true})");
  CHECK(json_of(directory / "training_args.json").dump() == R"({"max_iters": 3000})");
  const auto file = bdh::SafetensorsFile::open(directory / "model.safetensors");
  CHECK(file.metadata() ==
        bdh::Metadata{{"format", "pt"}, {"format_version", "1"}, {"training_steps", "100"}});
  const bdh::ModelMetadata metadata = bdh::read_model_metadata(directory.path());
  CHECK(metadata.format_version == Json(1));
  CHECK(metadata.created.size() == 20);
  REQUIRE(metadata.weights.size() == 1);
  CHECK(metadata.weights[0].sha256 == bdh::sha256_of_file(directory / "model.safetensors"));
  CHECK(metadata.details == options.details.as_object());
}

TEST_CASE("save: a loaded model keeps its facts when it is saved again") {
  TemporaryDirectory directory;
  Model model = model_of(tiny_config(), 1);
  model.tokenizer_source.files = {{"tokenizer.json", "{ }\n"}, {"special_tokens_map.json", "\xff odd"}};
  SaveOptions options;
  options.metadata = {{"a", "1"}};
  options.training_args.set("max_iters", 3000);
  options.details.set("dataset", "plays");
  model.save_pretrained(directory / "one", options);
  bdh::LoadOptions files_only;
  files_only.tokenizer = false;
  const Model loaded = Model::from_pretrained(directory / "one", files_only);
  SaveOptions again;
  again.metadata = {{"b", "2"}};
  loaded.save_pretrained(directory / "two", again);
  const Model twice = Model::from_pretrained(directory / "two", files_only);
  CHECK(twice.metadata == bdh::Metadata{{"a", "1"}, {"b", "2"}});
  CHECK(twice.training_args == options.training_args);
  CHECK(twice.details == options.details);
  CHECK(twice.tokenizer_source.files == model.tokenizer_source.files);
  again.save_tokenizer = false;
  loaded.save_pretrained(directory / "three", again);
  CHECK(Model::from_pretrained(directory / "three").tokenizer_source.files.empty());
}

TEST_CASE("save: another dtype, asked for at saving or at loading") {
  TemporaryDirectory directory;
  const Model model = model_of(tiny_config(), 3);
  SaveOptions options;
  options.dtype = DType::bf16;
  model.save_pretrained(directory / "bf16", options);
  const TensorMap halved = Model::from_pretrained(directory / "bf16").weights->state_dict();
  CHECK(same_bits(halved, bdh::random_state_dict(tiny_config(), 3, DType::bf16)));
  CHECK(halved.at("attn.freqs").dtype == DType::f32);
  model.save_pretrained(directory / "f32");
  bdh::LoadOptions as_half;
  as_half.dtype = DType::bf16;
  Model::from_pretrained(directory / "f32", as_half).save_pretrained(directory / "again");
  CHECK(same_bits(Model::from_pretrained(directory / "again").weights->state_dict(), halved));
}

TEST_CASE("save: config keys that are ours to keep, and those of transformers") {
  TemporaryDirectory directory;
  Config config = tiny_config();
  config.extra = {{"note", "mine"}, {"eos_token_id", 3}};
  model_of(config, 1).save_pretrained(directory / "kept");
  CHECK(bdh::read_config(directory / "kept").extra == config.extra);
  config.extra.emplace_back("model_type", "bdh");
  config.extra.emplace_back("auto_map", Json::Object{});
  const auto warnings = model_of(config, 1).save_pretrained(directory / "plain");
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("eos_token_id, model_type, auto_map;") != std::string::npos);
  CHECK(bdh::read_config(directory / "plain").extra == Json::Object{{"note", "mine"}});
  bdh::save_config(tiny_config(), directory / "alone");
  CHECK(files_in(directory / "alone") == std::set<std::string>{"config.json"});
  CHECK(bdh::read_config(directory / "alone").to_json() == tiny_config().to_json());
}

TEST_CASE("save: an existing model is replaced only when asked, and wholly") {
  TemporaryDirectory directory;
  SaveOptions shards = overwriting();
  shards.max_shard_size = 2000;
  shards.training_args.set("old", true);
  Model with_tokenizer = model_of(tiny_config(), 1);
  with_tokenizer.tokenizer_source.files = {{"tokenizer.json", "{}"}};
  with_tokenizer.save_pretrained(directory.path(), shards);
  for (const char* name : {"model.pt", "pytorch_model.bin", "pytorch_model-00001-of-00001.bin", "notes.txt",
                           "model-best.safetensors"})
    write_file(directory / name, "mine");
  fs::create_directories(directory / ".git");
  write_file(directory / ".git" / "HEAD", "ref");
  const Model next = model_of(tiny_config(), 2);
  const Thrown refused = thrown_by([&] { next.save_pretrained(directory.path()); });
  CHECK(refused.kind == ErrorKind::invalid_argument);
  CHECK(refused.says("--overwrite"));
  CHECK(next.save_pretrained(directory.path(), overwriting()).size() == 1);
  std::set<std::string> files = files_in(directory.path());
  files.erase("README.md");
  CHECK(files == std::set<std::string>{".git", "config.json", "generation_config.json", "metadata.json",
                                       "model-best.safetensors", "model.safetensors", "notes.txt"});
  CHECK(read_file(directory / ".git" / "HEAD") == "ref");
  CHECK(
      same_bits(Model::from_pretrained(directory.path()).weights->state_dict(), next.weights->state_dict()));
}

TEST_CASE("save: a model over itself, while it is mapped") {
  TemporaryDirectory directory;
  write_model(directory.path());
  const Model model = Model::from_pretrained(directory.path());
  SaveOptions options = overwriting();
  options.max_shard_size = 3000;
  model.save_pretrained(directory.path(), options);
  const Model back = Model::from_pretrained(directory.path());
  CHECK(same_bits(back.weights->state_dict(), model.weights->state_dict()));
  CHECK(same_bits(back.weights->state_dict(), bdh::random_state_dict(tiny_config(), 7)));
}

TEST_CASE("save: impossible options and places") {
  TemporaryDirectory directory;
  const Model model = model_of(tiny_config(), 1);
  const auto refused = [&](const fs::path& where, const SaveOptions& options) {
    return thrown_by([&] { model.save_pretrained(where, options); });
  };
  SaveOptions options;
  options.metadata = {{"format", "np"}};
  CHECK(refused(directory / "m", options).says("'format'"));
  options = {};
  options.dtype = DType::i8;
  CHECK(refused(directory / "m", options).kind == ErrorKind::invalid_argument);
  options = {};
  options.details.set("weights", 1);
  CHECK(refused(directory / "m", options).says("'weights'"));
  options.details = Json::Array{};
  CHECK(refused(directory / "m", options).kind == ErrorKind::invalid_argument);
  CHECK_FALSE(fs::exists(directory / "m"));
  write_file(directory / "file", "");
  CHECK(refused(directory / "file", {}).kind == ErrorKind::invalid_argument);
  CHECK(refused(directory / "file" / "m", {}).kind == ErrorKind::io);
  CHECK(refused("/proc/bdh/m", {}).kind == ErrorKind::io);
  fs::create_directories(directory / "odd" / "model.safetensors" / "x");
  const Thrown odd = refused(directory / "odd", overwriting());
  CHECK_MESSAGE(odd.says("is a directory where the model needs a file"), odd.message);
}

TEST_CASE("save: through a link to a directory") {
  TemporaryDirectory directory;
  fs::create_directories(directory / "real");
  fs::create_directory_symlink("real", directory / "link");
  model_of(tiny_config(), 1).save_pretrained(directory / "link");
  CHECK(fs::is_symlink(directory / "link"));
  CHECK(Model::from_pretrained(directory / "real").warnings.empty());
}

TEST_CASE("save: stopped by its progress callback, it leaves what was there") {
  TemporaryDirectory directory;
  const Model model = model_of(tiny_config(), 1);
  SaveOptions options = overwriting();
  uint64_t last = 0, total = 0;
  options.progress = [&](uint64_t done, uint64_t all) {
    last = done, total = all;
    return true;
  };
  model.save_pretrained(directory / "m", options);
  CHECK(total > 0);
  CHECK(last >= total);
  options.progress = [](uint64_t, uint64_t) { return false; };
  CHECK(thrown_by([&] { model.save_pretrained(directory / "fresh", options); }).kind == ErrorKind::cancelled);
  CHECK_FALSE(fs::exists(directory / "fresh"));
  const std::set<std::string> before = files_in(directory / "m");
  CHECK(thrown_by([&] { model_of(tiny_config(), 2).save_pretrained(directory / "m", options); }).kind ==
        ErrorKind::cancelled);
  CHECK(files_in(directory / "m") == before);
  CHECK(
      same_bits(Model::from_pretrained(directory / "m").weights->state_dict(), model.weights->state_dict()));
}

TEST_CASE("save: a file size limit, as a full disk, leaves the old model and says what is needed") {
  TemporaryDirectory directory;
  model_of(tiny_config(), 1).save_pretrained(directory.path());
  const std::set<std::string> before = files_in(directory.path());
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{10'000, old.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const Thrown error =
      thrown_by([&] { model_of(tiny_config(), 2).save_pretrained(directory.path(), overwriting()); });
  setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, handler);
  CHECK(error.kind == ErrorKind::io);
  CHECK_MESSAGE(error.says("saving needs"), error.message);
  CHECK_MESSAGE(error.says("are free"), error.message);
  CHECK(files_in(directory.path()) == before);
  CHECK(same_bits(Model::from_pretrained(directory.path()).weights->state_dict(),
                  bdh::random_state_dict(tiny_config(), 1)));
}

TEST_CASE("save: packed, and unpacked again byte for byte") {
  std::mt19937 draw(20261128);
  for (int round = 0; round < 20; ++round) {
    TemporaryDirectory directory;
    const Config config = random_config(draw);
    const DType dtype = std::array{DType::f32, DType::bf16, DType::f16}[draw() % 3];
    SaveOptions options;
    options.max_shard_size = std::array<uint64_t, 3>{700, 5000, 5'000'000'000}[draw() % 3];
    options.metadata = {{"training_steps", "100"}};
    Model model = model_of(config, draw(), dtype);
    if (const auto bits = std::array{0, 8, 4}[draw() % 3]) model = quantized(model, bits);
    model.save_pretrained(directory / "plain", options);
    options.packed = true;
    Model::from_pretrained(directory / "plain").save_pretrained(directory / "packed", options);
    bdh::LoadOptions verify;
    verify.verify = true, verify.strict = true;
    const Model packed = Model::from_pretrained(directory / "packed", verify);
    CHECK(packed.warnings.empty());
    CHECK(packed.packed);
    CHECK(packed.metadata == bdh::Metadata{{"training_steps", "100"}});
    options.packed = false;
    packed.save_pretrained(directory / "again", options);
    CHECK(files_in(directory / "again") == files_in(directory / "plain"));
    for (const std::string& name : files_in(directory / "plain")) {
      CAPTURE(name);
      if (name != "metadata.json" && name != "README.md")
        CHECK(read_file(directory / "plain" / name) == read_file(directory / "again" / name));
    }
  }
}

TEST_CASE("save: packed tensors are aligned, and the file says what they are") {
  TemporaryDirectory directory;
  SaveOptions options;
  options.packed = true;
  model_of(bdh::test::config_of(2, 20, 2, 8, 37), 1, DType::bf16).save_pretrained(directory.path(), options);
  const auto file = bdh::SafetensorsFile::open(directory / "model.safetensors");
  CHECK(file.metadata().at("bdh.layout") == "packed");
  for (const bdh::TensorInfo& info : file.tensors()) {
    CAPTURE(info.name);
    if ((info.end - info.begin) % 64 == 0) CHECK((file.data_offset() + info.begin) % 64 == 0);
  }
  const Json quantization = *json_of(directory / "config.json").find("quantization_config");
  CHECK(quantization.dump() == R"({"quant_method": "bdh", "layout": "packed"})");
  const std::string card = read_file(directory / "README.md");
  CHECK(card.find("bfloat16, packed, which bdh reads") != std::string::npos);
  CHECK(card.find("load_state_dict") == std::string::npos);
}

TEST_CASE("save: packed weights are safetensors of a dtype that runs") {
  TemporaryDirectory directory;
  SaveOptions options;
  options.packed = true;
  const auto refused = [&](const Model& model, const char* words) {
    const Thrown thrown = thrown_by([&] { model.save_pretrained(directory / "m", options); });
    CHECK_MESSAGE(thrown.says(words), thrown.message);
    CHECK_FALSE(fs::exists(directory / "m"));
  };
  refused(model_of(tiny_config(), 1, DType::f64), "--dtype f32");
  options.safe_serialization = false;
  refused(model_of(tiny_config(), 1), "packed weights are safetensors");
  options.safe_serialization = true;
  options.metadata = {{"bdh.layout", "columns"}};
  refused(model_of(tiny_config(), 1), "metadata 'bdh.layout' is written by bdh itself");
}
