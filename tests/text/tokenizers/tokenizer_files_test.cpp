// A model directory with tokenizer files: read with the model, used by generation and by `bdh tokenize`.
#include "bdh/pretrained/tokenizer_files.h"

#include <doctest/doctest.h>

#include <string>

#include "bdh/base/json.h"
#include "bdh/pretrained/model.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

using namespace bdh;
using bdh::test::run_command;
using bdh::test::TemporaryDirectory;
using bdh::test::thrown_by;
using bdh::test::write_file;

namespace {

const char* const kTokenizer =
    R"({"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "?": 2}, "unk_token": "?"},
  "pre_tokenizer": {"type": "WhitespaceSplit"}, "added_tokens": [{"id": 3, "content": "<s>", "special": true}],
  "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}], "pair": [],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}}}})";

}  // namespace

TEST_CASE("tokenizer files: read with the model, and back byte for byte") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  write_file(directory / "tokenizer.json", kTokenizer);
  write_file(directory / "tokenizer_config.json", R"({"eos_token": "b"})");
  const Model model = Model::from_pretrained(directory.path());
  REQUIRE(model.tokenizer != nullptr);
  CHECK(model.tokenizer->eos() == 1);
  CHECK(model.tokenizer->files().size() == 2);
  CHECK(model.tokenizer->files().at("tokenizer.json") == kTokenizer);
}

TEST_CASE("tokenizer files: more tokens than the model has are warned about") {
  TemporaryDirectory directory;
  write_file(directory / "tokenizer.json", kTokenizer);
  std::vector<std::string> warnings;
  CHECK(tokenizer_from(find_tokenizer(directory.path(), 4), 4, directory.path(), &warnings)->vocab_size() ==
        4);
  CHECK(warnings.empty());
  tokenizer_from(find_tokenizer(directory.path(), 3), 3, directory.path(), &warnings);
  CHECK(warnings.size() == 1);
}

TEST_CASE("tokenizer files: a broken one is named") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  write_file(directory / "tokenizer.json", "{}");
  const auto thrown = thrown_by([&] { Model::from_pretrained(directory.path()); });
  CHECK(thrown.kind == ErrorKind::bad_file);
  CHECK(thrown.says("tokenizer.json"));
}

TEST_CASE("tokenizer files: a prompt begins with the special tokens, a later one does not") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  write_file(directory / "tokenizer.json", kTokenizer);
  const Model model = Model::from_pretrained(directory.path());
  Session session(model.weights);
  Session* pointer = &session;
  GenerationConfig config;
  config.max_new_tokens = 1;
  const std::string prompt = "a b";
  CHECK(generate({&pointer, 1}, *model.tokenizer, {&prompt, 1}, config).texts[0].prompt_tokens == 3);
  CHECK(generate({&pointer, 1}, *model.tokenizer, {&prompt, 1}, config).texts[0].prompt_tokens == 2);
}

TEST_CASE("bdh tokenize: text to tokens and back, one or many") {
  TemporaryDirectory directory;
  write_file(directory / "tokenizer.json", kTokenizer);
  const std::string path = directory.path().string();
  CHECK(run_command({"tokenize", path, "--text", "a x"}).out == "3\t<s>\n0\ta\n2\t?\n");
  CHECK(run_command({"tokenize", path, "-", "--no-special-tokens"}, "b\n").out == "1\tb\n");
  CHECK(run_command({"tokenize", path, "--decode", "3, 0 1"}).out == "<s> a b\n");
  CHECK(run_command({"tokenize", path, "--decode", "3 0 1", "--skip-special-tokens"}).out == "a b\n");
  write_file(directory / "lines", R"(["a", [3, 1]])");
  const Json lines = Json::parse(
      run_command({"tokenize", path, "--lines", (directory / "lines").string(), "--pieces"}).out, "lines");
  REQUIRE(lines.as_array().size() == 2);
  CHECK(lines.as_array()[0].find("tokens")->as_array() == Json::Array{3, 0});
  CHECK(lines.as_array()[1].find("text")->as_string() == "<s> b");
  CHECK(lines.as_array()[1].find("pieces")->as_array().size() == 3);
  CHECK(run_command({"tokenize", path}).exit_code == 2);
  CHECK(run_command({"tokenize", path, "--decode", "x"}).exit_code == 1);
  CHECK(run_command({"tokenize", path + "/none", "--text", "x"}).exit_code == 1);
}

TEST_CASE("bdh eval: tokens of a tokenizer, bits by the bytes they stand for") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  write_file(directory / "tokenizer.json", kTokenizer);
  std::string text;
  for (int i = 0; i < 20; ++i) text += "a   bbb ";
  write_file(directory / "text", text);
  const auto eval = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"eval", directory.path().string(), "--text",
                                       (directory / "text").string(), "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const auto result = run_command(arguments);
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    return Json::parse(result.out, "stdout");
  };
  const Json blocks = eval({"--block", "5"}), stream = eval({"--stream"});
  CHECK(blocks.find("tokens")->as_integer() == 35);
  CHECK(stream.find("tokens")->as_integer() == 39);
  const double nats = stream.find("nats_per_token")->as_number();
  CHECK(stream.find("bits_per_byte")->as_number() == doctest::Approx(nats / 0.6931471805599453 / 4));
}
