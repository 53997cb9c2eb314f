// `bdh inspect`: what it says of a directory and of a file, and the sparsity it measures. Runs the built
// program.

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/formats/safetensors.h"
#include "bdh/formats/torch/torch_file.h"
#include "bdh/model/weights.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/outcome.h"
#include "tests/support/temporary.h"

namespace {

using bdh::Json;
using bdh::test::CommandResult;
using bdh::test::joined;
using bdh::test::json_of;
using bdh::test::run_command;
using bdh::test::TemporaryDirectory;
using bdh::test::tiny_config;

Json inspect(const std::vector<std::string>& more) {
  return json_of(run_command(joined({"inspect", "--json"}, more)));
}

}  // namespace

TEST_CASE("bdh inspect: a directory") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  const Json json = inspect({directory.path().string()});
  CHECK(json.find("config")->find("n_embd")->as_integer() == 16);
  CHECK(json.find("neurons_per_head")->as_integer() == 32);
  CHECK(json.find("parameters")->as_integer() == tiny_config().parameters());
  CHECK(json.find("state_bytes")->as_integer() == tiny_config().state_bytes());
  CHECK(json.find("session_bytes")->as_integer() >= tiny_config().state_bytes());
  CHECK(json.find("weight_bytes")->as_integer() == 4 * (tiny_config().parameters() + 32));
  CHECK(json.find("metadata")->find("format_version")->as_string() == "1");
  CHECK(json.find("warnings")->as_array().empty());
  const auto file = bdh::SafetensorsFile::open(directory / "model.safetensors");
  const Json::Array& tensors = json.find("tensors")->as_array();
  REQUIRE(tensors.size() == 6);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const bdh::TensorInfo& info = file.tensors()[i];
    CHECK(tensors[i].find("name")->as_string() == info.name);
    CHECK(tensors[i].find("dtype")->as_string() == "F32");
    CHECK(tensors[i].find("offset")->as_integer() == static_cast<int64_t>(file.data_offset() + info.begin));
    CHECK(tensors[i].find("bytes")->as_integer() == static_cast<int64_t>(info.end - info.begin));
  }
}

TEST_CASE("bdh inspect: the block a model was trained on, and its horizon") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  bdh::test::write_file(directory / "training_args.json", R"({"block_size": 24})");
  bdh::test::write_file(directory / "generation_config.json", R"({"horizon": "inf"})");
  const Json json = inspect({directory.path().string()});
  CHECK(json.find("block_size")->as_integer() == 24);
  CHECK(json.find("horizon")->as_string() == "inf");
  const std::string text = run_command({"inspect", directory.path().string()}).out;
  CHECK(text.find("block       24 tokens of a training example\n") != std::string::npos);
  CHECK(text.find("horizon     inf tokens\n") != std::string::npos);
}

TEST_CASE("bdh inspect: a single file, and as text") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  const std::string file = (directory / "model.safetensors").string();
  const Json json = inspect({file});
  CHECK(json.find("config") == nullptr);
  CHECK(json.find("tensors")->as_array().size() == 6);
  const CommandResult text = run_command({"inspect", file});
  for (const char* part : {"embed.weight", "(256, 16)", "F32", "format_version: 1"})
    CHECK_MESSAGE(text.out.find(part) != std::string::npos, part);
  CHECK(run_command({"inspect", (directory / "config.json").string()}).exit_code == 1);
}

#ifdef BDH_TORCH
TEST_CASE("bdh inspect: a PyTorch file, alone and in its directory") {
  TemporaryDirectory directory;
  bdh::write_torch_file(directory / "model.pt", bdh::random_state_dict(tiny_config(), 7));
  bdh::test::write_file(directory / "config.json", tiny_config().to_json().dump(2));
  for (const std::string& path : {directory.path().string(), (directory / "model.pt").string()}) {
    const Json json = inspect({path});
    CHECK(json.find("weight_bytes")->as_integer() == 4 * (tiny_config().parameters() + 32));
    REQUIRE(json.find("tensors")->as_array().size() == 6);
    CHECK(json.find("tensors")->as_array()[1].find("name")->as_string() == "decoder");
    CHECK(json.find("tensors")->as_array()[1].find("offset")->is_null());
    CHECK(json.find("warnings")->as_array().empty());
  }
}
#endif

TEST_CASE("bdh inspect: tensors that contradict the config are warned about") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  bdh::Config other = tiny_config();
  other.vocab_size = 99;
  bdh::TensorMap tensors = bdh::random_state_dict(other, 1);
  tensors.erase("decoder");
  bdh::write_safetensors(directory / "model.safetensors", tensors, {});
  CHECK(inspect({directory.path().string()}).find("warnings")->as_array().size() == 3);
}

TEST_CASE("bdh inspect: weights for each layer") {
  TemporaryDirectory directory;
  bdh::Config config = bdh::test::untied(tiny_config());
  bdh::test::write_model(directory.path(), config);
  const Json json = inspect({directory.path().string()});
  CHECK(*json.find("config")->find("tie_layers") == Json(false));
  CHECK(json.find("parameters")->as_integer() == config.parameters());
  CHECK(json.find("weight_bytes")->as_integer() == 4 * (config.parameters() + 32));
  CHECK(json.find("tensors")->as_array().size() == 9);
  CHECK(json.find("warnings")->as_array().empty());
  CHECK(run_command({"inspect", directory.path().string()}).out.find(", tie_layers false\n") !=
        std::string::npos);
  config.n_layer = 65536;
  bdh::test::write_file(directory / "config.json", config.to_json().dump());
  const Json::Array warnings = inspect({directory.path().string()}).find("warnings")->as_array();
  CHECK(warnings.front().as_string() == "tensor 'decoder.2' is missing");
  CHECK(warnings.back().as_string() == "196578 more tensors are missing or have another shape");
  CHECK(warnings.size() < 50);
}

TEST_CASE("bdh inspect: names out of a hostile file stay on their line") {
  TemporaryDirectory directory;
  std::byte* data = nullptr;
  bdh::write_safetensors(directory / "x.safetensors",
                         {{"a\n\x1b[31mb", bdh::make_tensor(bdh::DType::u8, {1}, &data)}}, {});
  const CommandResult result = run_command({"inspect", (directory / "x.safetensors").string()});
  CHECK(result.exit_code == 0);
  CHECK(result.out.find("a\\n\\x1b[31mb") != std::string::npos);
}

TEST_CASE("bdh inspect: sparsity of random weights is a half, as table, JSON and picture") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  const std::string text = (directory / "text").string(), picture = (directory / "sparsity.svg").string();
  std::string letters;
  for (int i = 0; i < 700; ++i) letters += static_cast<char>('a' + i * i % 26);
  bdh::test::write_file(text, letters);
  const Json json = inspect(
      {directory.path().string(), "--sparsity", "--text", text, "--limit", "600", "--picture", picture});
  const Json& sparsity = *json.find("sparsity");
  CHECK(sparsity.find("tokens")->as_integer() == 600);
  const Json::Array& layers = sparsity.find("layers")->as_array();
  REQUIRE(layers.size() == 2);
  for (const Json& layer : layers) {
    const double n = layer.find("n")->as_number(), pairs = layer.find("pairs")->as_number();
    const double v = layer.find("v")->as_number(), g = layer.find("g")->as_number();
    CHECK((n > 0.3 && n < 0.7));
    CHECK((pairs > n && pairs <= std::min(1.0, 2 * n)));
    CHECK((v > 0.3 && v < 0.7));
    CHECK((g > 0.1 && g < std::min(n, v)));
  }
  const std::string svg = bdh::test::read_file(picture);
  CHECK(svg.starts_with("<svg "));
  CHECK(svg.ends_with("</svg>\n"));
  const CommandResult table =
      run_command({"inspect", directory.path().string(), "--sparsity", "--text", text});
  CHECK(table.out.find("density over 700 tokens") != std::string::npos);
  CHECK(run_command({"inspect", (directory / "model.safetensors").string(), "--sparsity", "--text", text})
            .exit_code == 1);
}
