// `bdh convert --packed`: directories that every command reads as it reads others, and what is refused. Runs
// the built program.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "tests/support/models.h"
#include "tests/support/outcome.h"
#include "tests/support/temporary.h"

namespace {

namespace fs = std::filesystem;
using namespace bdh;
using test::check_failure;
using test::has;
using test::json_of;
using test::output_of;
using test::read_file;
using test::run_command;

struct Small {
  test::TemporaryDirectory directory;
  std::string source = path("model"), packed = path("packed"), text = path("text");

  explicit Small(const Config& config = test::config_of(2, 48, 2, 8)) {
    fs::create_directories(path("written"));
    test::write_model(path("written"), config);
    output_of(run_command({"convert", path("written"), source}));
    std::string words;
    for (size_t i = 0; i < 700; ++i) words += static_cast<char>('a' + i * i % 23);
    test::write_file(text, words);
  }
  std::string path(const char* name) const { return (directory / name).string(); }
  std::string weights(const std::string& folder) const { return read_file(folder + "/model.safetensors"); }
  void pack() const { output_of(run_command({"convert", source, packed, "--packed", "--overwrite"})); }
};

/// stdout of a command on each directory, with the name of the directory left out.
void check_same_output(const Small& model, std::vector<std::string> command) {
  CAPTURE(command.front());
  command.insert(command.begin() + 1, model.source);
  const std::string want = output_of(run_command(command));
  command[1] = model.packed;
  CHECK(output_of(run_command(command)) == want);
}

void replace(const std::string& file, const std::string& from, const std::string& to) {
  std::string text = read_file(file);
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  test::write_file(file, text.replace(at, from.size(), to));
}

}  // namespace

TEST_CASE("bdh convert --packed: what it writes every command reads as the model that it was made of") {
  for (const std::string bits : {"", "8", "4"}) {
    CAPTURE(bits);
    const Small model(test::untied(test::config_of(2, 48, 2, 8)));
    if (!bits.empty()) {
      output_of(run_command({"quantize", model.source, model.path("small"), "--bits", bits}));
      fs::remove_all(model.source);
      fs::rename(model.path("small"), model.source);
    }
    model.pack();
    check_same_output(
        model, {"generate", "--prompt", "ab", "--max-new-tokens", "9", "--seed", "7", "--device", "cpu"});
    check_same_output(model, {"tokenize", "--text", "abc"});
    output_of(run_command({"eval", model.packed, "--text", model.text, "--block", "64", "--device", "cpu"}));
    for (const std::string& folder : {model.source, model.packed})
      output_of(run_command({"logits", folder, "--tokens", "1,2,3", "--out", folder + "/logits.safetensors",
                             "--device", "cpu"}));
    CHECK(read_file(model.source + "/logits.safetensors") == read_file(model.packed + "/logits.safetensors"));
    const std::string valid = output_of(run_command({"validate", model.packed, "--device", "cpu"}));
    CHECK_FALSE(has(valid, "failed"));
    CHECK_FALSE(has(valid, "warned"));
    CHECK(has(output_of(run_command({"inspect", model.packed})), "bdh.layout: packed"));
    CHECK(run_command({"inspect", model.packed + "/model.safetensors"}).exit_code == 0);
    output_of(run_command({"inspect", model.packed, "--sparsity", "--text", model.text, "--device", "cpu"}));
    output_of(run_command({"convert", model.packed, model.path("again"), "--overwrite"}));
    CHECK(model.weights(model.path("again")) == model.weights(model.source));
    CHECK(read_file(model.path("again") + "/config.json") == read_file(model.source + "/config.json"));
  }
}

TEST_CASE("bdh convert --packed: sessions, shards, other dtypes, files and more bits") {
  const Small model;
  const std::string session = model.path("session");
  output_of(run_command({"convert", model.source, model.packed, "--packed", "--max-shard-size", "20KB"}));
  CHECK(fs::exists(model.packed + "/model.safetensors.index.json"));
  output_of(run_command({"generate", model.source, "--prompt", "ab", "--max-new-tokens", "4",
                         "--save-session", session, "--device", "cpu"}));
  check_same_output(model, {"generate", "--load-session", session, "--max-new-tokens", "4", "--seed", "7",
                            "--device", "cpu"});
  output_of(run_command({"convert", model.packed, model.path("whole")}));
  CHECK(model.weights(model.path("whole")) == model.weights(model.source));
  output_of(run_command({"convert", model.packed, model.path("file.safetensors")}));
  CHECK(read_file(model.path("file.safetensors")) == model.weights(model.source));
  output_of(run_command({"convert", model.packed, model.path("pt"), "--to", "pt"}));
  output_of(run_command({"convert", model.path("pt"), model.path("from-pt")}));
  CHECK(model.weights(model.path("from-pt")) == model.weights(model.source));
  output_of(run_command({"convert", model.source, model.path("half"), "--packed", "--dtype", "bf16"}));
  output_of(run_command({"convert", model.source, model.path("plain-half"), "--dtype", "bf16"}));
  output_of(run_command({"convert", model.path("half"), model.path("half-again")}));
  CHECK(model.weights(model.path("half-again")) == model.weights(model.path("plain-half")));
  for (const std::string bits : {"8", "4"}) {
    output_of(run_command({"quantize", model.source, model.path("want"), "--bits", bits, "--overwrite"}));
    output_of(run_command({"quantize", model.packed, model.path("got"), "--bits", bits, "--overwrite"}));
    CHECK(model.weights(model.path("got")) == model.weights(model.path("want")));
    output_of(run_command({"convert", model.path("want"), model.path("small"), "--packed", "--overwrite"}));
    output_of(
        run_command({"convert", model.path("want"), model.path("floats"), "--dequantize", "--overwrite"}));
    output_of(
        run_command({"convert", model.path("small"), model.path("same"), "--dequantize", "--overwrite"}));
    CHECK(model.weights(model.path("same")) == model.weights(model.path("floats")));
  }
  output_of(run_command({"train", "--from", model.packed, "--data", model.text, "--out", model.path("run"),
                         "--steps", "1", "--block", "16", "--device", "cpu"}));
}

TEST_CASE("bdh memory: packed weights take no copy") {
  const Small model(test::config_of(2, 64, 2, 8));
  model.pack();
  const auto memory = [](const std::string& folder, const char* dtype) {
    return json_of(
        run_command({"memory", folder, "--json", "--measure", "--device", "cpu", "--dtype", dtype}));
  };
  const Json packed = memory(model.packed, "f32"), plain = memory(model.source, "f32");
  CHECK(packed.find("measured")->find("copied_bytes")->as_integer() == 0);
  CHECK(plain.find("measured")->find("copied_bytes")->as_integer() > 0);
  CHECK(*packed.find("mapped_bytes")->find("F32") == *packed.find("weights_bytes")->find("F32"));
  CHECK(packed.find("mapped_bytes")->find("BF16")->as_integer() == 0);
  CHECK(plain.find("mapped_bytes") == nullptr);
  CHECK(memory(model.packed, "bf16").find("measured")->find("copied_bytes")->as_integer() > 0);
  CHECK(has(output_of(run_command({"memory", model.packed, "--device", "cpu"})), "  mapped"));
}

TEST_CASE("packed models: refusals name what is wrong") {
  const Small model;
  model.pack();
  const auto logits = [&](const std::string& folder) {
    return run_command(
        {"logits", folder, "--tokens", "1", "--out", model.path("l.safetensors"), "--device", "cpu"});
  };
  check_failure(run_command({"convert", model.source, model.path("x.safetensors"), "--packed"}), 1,
                "--packed makes a directory");
  check_failure(run_command({"convert", model.source, model.path("x"), "--packed", "--to", "pt"}), 1,
                "packed weights are safetensors");
  CHECK_FALSE(fs::exists(model.path("x")));
  const std::string alone = model.path("alone.safetensors");
  test::write_file(alone, model.weights(model.packed));
  check_failure(run_command({"convert", alone, model.path("y.safetensors")}), 1, "config.json");
  check_failure(run_command({"convert", model.source, model.path("x"), "--metadata", "bdh.layout=x"}), 1,
                "is written by bdh itself");

  const std::string config = model.packed + "/config.json", plain = model.source + "/config.json";
  const std::string packed_config = read_file(config), plain_config = read_file(plain);
  const auto refused = [&](const std::string& from, const std::string& to, const char* words) {
    replace(config, from, to);
    check_failure(logits(model.packed), 1, words);
    check_failure(run_command({"convert", model.packed, model.path("x")}), 1, words);
    CHECK(run_command({"validate", model.packed, "--device", "cpu"}).exit_code == 1);
    test::write_file(config, packed_config);
  };
  refused("\"packed\"", "\"columns\"", "layout is \"columns\"; bdh reads \"packed\"");
  refused("\"layout\"", "\"format\"", "bits is missing");
  refused("\"packed\"", "\"packed\", \"bits\": 8", "belong to different models");
  refused("\"quantization_config\"", "\"quantization\"", "metadata says that the weights are packed");
  test::write_file(plain, packed_config);
  check_failure(logits(model.source), 1, "the file's metadata does not");
  test::write_file(plain, plain_config);
  replace(model.packed + "/model.safetensors", "encoder_v.rows", "encoder_v.rowz");
  check_failure(logits(model.packed), 1, "'encoder_v.rows' is missing");
  replace(model.packed + "/model.safetensors", "\"bdh.layout\":\"packed\"", "\"bdh.layout\":\"pocked\"");
  check_failure(logits(model.packed), 1, "bdh.layout is 'pocked'; bdh reads packed");
}
