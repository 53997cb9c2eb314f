// `bdh quantize` and `bdh convert --dequantize`: directories that every command reads, what is reported, and
// what is refused. Runs the built program.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "bdh/model/quantization.h"
#include "bdh/pretrained/model.h"
#include "bdh/pretrained/quantize.h"
#include "tests/support/models.h"
#include "tests/support/outcome.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

namespace {

namespace fs = std::filesystem;
using namespace bdh;
using test::check_failure;
using test::json_of;
using test::output_of;
using test::run_command;

struct Small {
  test::TemporaryDirectory directory;
  std::string source = (directory / "model").string(), out = (directory / "out").string(),
              text = (directory / "text").string();

  explicit Small(const Config& config = test::config_of(2, 48, 2, 8)) {
    fs::create_directories(source);
    test::write_model(source, config);
    std::string words;
    for (size_t i = 0; i < 700; ++i) words += static_cast<char>('a' + i * i % 23);
    test::write_file(text, words);
  }
  std::string path(const char* name) const { return (directory / name).string(); }
  void rewrite(const std::string& from, const std::string& to) const {
    std::string config = test::read_file(out + "/config.json");
    const size_t at = config.find(from);
    REQUIRE(at != std::string::npos);
    test::write_file(out + "/config.json", config.replace(at, from.size(), to));
  }
};

double number(const Json& json, const char* key) { return json.find(key)->as_number(); }

}  // namespace

TEST_CASE("bdh quantize: sizes, bits per byte and divergence") {
  const Small model;
  for (const std::string bits : {"8", "4"}) {
    CAPTURE(bits);
    const Json told = json_of(run_command({"quantize", model.source, model.out, "--bits", bits, "--text",
                                           model.text, "--block", "64", "--json", "--overwrite"}));
    CHECK(told.find("tokens")->as_integer() == 640);
    CHECK(number(told, "kl_divergence") > 0);
    CHECK(number(told, "kl_divergence") < 1e-2);
    CHECK(told.find("bytes")->as_integer() ==
          static_cast<int64_t>(fs::file_size(model.out + "/model.safetensors")));
    for (const auto& [key, directory] : {std::pair{"before", model.source}, {"after", model.out}}) {
      const Json eval = json_of(run_command(
          {"eval", directory, "--text", model.text, "--block", "64", "--json", "--device", "cpu"}));
      CHECK(number(*told.find(key), "bits_per_byte") ==
            doctest::Approx(number(eval, "bits_per_byte")).epsilon(1e-9));
    }
  }
  const std::string text = output_of(run_command({"quantize", model.source, model.out, "--overwrite"}));
  CHECK(test::has(text, "in 8 bits"));
  CHECK_FALSE(test::has(text, "KL divergence"));
}

TEST_CASE("bdh quantize: what it writes every command reads") {
  const Small model(test::untied(test::config_of(2, 48, 2, 8)));
  for (const std::string bits : {"8", "4"}) {
    CAPTURE(bits);
    output_of(run_command({"quantize", model.source, model.out, "--bits", bits, "--overwrite"}));
    const std::string name = "int" + bits;
    const std::string session = model.path("session");
    LoadOptions strict;
    strict.strict = strict.verify = true;
    CHECK(Model::from_pretrained(model.out, strict).warnings.empty());
    CHECK(test::has(output_of(run_command({"validate", model.out, "--device", "cpu"})), name));
    CHECK(test::has(output_of(run_command({"inspect", model.out})), "encoder.1.scales"));
    const Json memory = json_of(run_command({"memory", model.out, "--measure", "--json", "--device", "cpu"}));
    CHECK(memory.find("measured")->find("dtype")->as_string() == name);
    CHECK(memory.find("weights_bytes")->find(name)->as_integer() >=
          memory.find("parameters")->as_integer() / 2);
    output_of(run_command({"generate", model.out, "--prompt", "ab", "--max-new-tokens", "4", "--save-session",
                           session, "--device", "cpu"}));
    output_of(run_command(
        {"generate", model.out, "--load-session", session, "--max-new-tokens", "4", "--device", "cpu"}));
    const Json logits = json_of(run_command({"logits", model.out, "--tokens", "1,2,3", "--out",
                                             model.path("logits.safetensors"), "--json", "--device", "cpu"}));
    CHECK(logits.find("dtype")->as_string() == name);
    output_of(run_command({"convert", model.out, model.path("pt"), "--to", "pt", "--overwrite"}));
    CHECK(Model::from_pretrained(model.path("pt")).weights->hash() ==
          Model::from_pretrained(model.out).weights->hash());
    CHECK(test::has(test::read_file(model.out + "/README.md"), name));
  }
}

TEST_CASE("bdh convert --dequantize: the floats that the integers stand for") {
  const Small model;
  output_of(run_command({"quantize", model.source, model.out, "--bits", "4"}));
  output_of(run_command({"convert", model.out, model.path("floats"), "--dequantize"}));
  const Model small = Model::from_pretrained(model.out),
              floats = Model::from_pretrained(model.path("floats"));
  CHECK(floats.config().weight_bits == 0);
  CHECK(test::same_bits(floats.weights->state_dict(), dequantized(small).weights->state_dict()));
  const std::string file = model.path("floats.safetensors");
  output_of(run_command({"convert", model.out, file, "--dequantize"}));
  CHECK(test::same_bits(SafetensorsFile::open(file).tensor("encoder"),
                        floats.weights->state_dict().at("encoder")));
  output_of(run_command({"convert", model.out, model.path("half"), "--dequantize", "--dtype", "bf16"}));
  CHECK(Model::from_pretrained(model.path("half")).weights->dtype() == DType::bf16);
}

TEST_CASE("quantized models: refusals name what is wrong") {
  const Small model;
  output_of(run_command({"quantize", model.source, model.out, "--bits", "4"}));
  check_failure(run_command({"quantize", model.source, model.path("five"), "--bits", "5"}), 1,
                "8 or 4 bits, not 5");
  CHECK_FALSE(fs::exists(model.path("five")));
  check_failure(run_command({"quantize", model.out, model.path("again")}), 1, "4 bits already");
  check_failure(run_command({"quantize", model.source, model.out}), 1, "--overwrite");
  check_failure(run_command({"convert", model.source, model.path("x"), "--dequantize"}), 1, "not quantized");
  check_failure(run_command({"convert", model.out, model.path("x"), "--dtype", "bf16"}), 1, "--dequantize");
  check_failure(run_command({"convert", model.out, model.path("x.safetensors")}), 1, "needs a config.json");
  check_failure(run_command({"generate", model.out, "--prompt", "a", "--dtype", "bf16"}), 1,
                "bdh convert --dequantize");
  check_failure(run_command({"train", "--from", model.out, "--data", model.text, "--out", model.path("run")}),
                1, "training needs weights in floats");
  check_failure(run_command({"gradients", model.out, "--tokens", "1,2", "--targets", "2,3", "--out",
                             model.path("gradients.safetensors")}),
                1, "a gradient needs weights in floats");
  const auto refused = [&](const std::string& from, const std::string& to, const char* words) {
    model.rewrite(from, to);
    check_failure(run_command({"logits", model.out, "--tokens", "1", "--out", model.path("l.safetensors"),
                               "--device", "cpu"}),
                  1, words);
    model.rewrite(to, from);
  };
  refused("\"quant_method\": \"bdh\"", "\"quant_method\": \"gptq\"", "quant_method is \"gptq\"");
  refused("\"quant_method\"", "\"method\"", "quant_method is missing");
  refused("\"bits\": 4", "\"bits\": 3", "bits is 3; bdh reads 8 and 4");
  refused("\"bits\": 4", "\"bits\": 4.5", "bits is 4.5");
  refused("\"group_size\": 32", "\"group_size\": 64", "group_size is 64");
  refused("\"group_size\": 32", "\"group_size\": 32, \"zero_point\": true", "zero_point");
  refused("\"bits\": 4,\n    \"group_size\": 32", "\"bits\": 8", "has shape");
  refused("\"quantization_config\"", "\"quantization\"", "has no quantization_config");
}
