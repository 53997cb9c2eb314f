// `bdh eval`: block boundaries, streams, forms, threads, ranges. Runs the built program.

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/pretrained/model.h"
#include "tests/support/backends.h"
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

std::string sample_text(size_t bytes) {
  std::string text;
  for (size_t i = 0; i < bytes; ++i) text += static_cast<char>('a' + i * i % 23);
  return text;
}

struct EvalRun {
  TemporaryDirectory directory;
  std::string text = (directory / "text").string();

  explicit EvalRun(size_t bytes) {
    bdh::test::write_model(directory.path());
    bdh::test::write_file(text, sample_text(bytes));
  }

  CommandResult run(const std::vector<std::string>& more, const std::string& input = {}) const {
    return run_command(joined({"eval", directory.path().string(), "--json"}, more), input);
  }

  Json json(const std::vector<std::string>& more, const std::string& input = {}) const {
    return json_of(run(more, input));
  }
};

int64_t tokens_of(const Json& json) { return json.find("tokens")->as_integer(); }
double nats_of(const Json& json) { return json.find("nats_per_token")->as_number(); }

/// Mean loss of predicting text[begin + 1 ...] in blocks, from the library's own logits.
double expected_nats(const EvalRun& command, size_t blocks, size_t block) {
  const bdh::Model model = bdh::Model::from_pretrained(command.directory.path());
  const std::vector<int32_t> tokens = model.tokenizer->encode(bdh::test::read_file(command.text));
  double nats = 0;
  for (size_t b = 0; b < blocks; ++b) {
    const auto logits = bdh::Session(model.weights).read_all(std::span(tokens).subspan(b * block, block));
    for (size_t t = 0; t < block; ++t) {
      double sum = 0;
      for (size_t v = 0; v < 256; ++v) sum += std::exp(double{logits[t * 256 + v]});
      nats += std::log(sum) - logits[t * 256 + static_cast<size_t>(tokens[b * block + t + 1])];
    }
  }
  return nats / static_cast<double>(blocks * block);
}

}  // namespace

TEST_CASE("bdh eval: blocks as the reference cuts them, in every form") {
  const EvalRun command(100);  // blocks of 16: starts below 100 - 1 - 16 = 83 are 0, 16, 32, 48, 64, 80
  const double expected = expected_nats(command, 6, 16);
  for (const char* form : {"parallel", "chunked", "recurrent"}) {
    const Json result =
        command.json({"--text", command.text, "--block", "16", "--form", form, "--chunk", "5"});
    CHECK(tokens_of(result) == 96);
    CHECK(nats_of(result) == doctest::Approx(expected).epsilon(1e-5));
    CHECK(result.find("bits_per_byte")->as_number() ==
          doctest::Approx(expected / std::log(2.0)).epsilon(1e-5));
  }
}

TEST_CASE("bdh eval: a block needs a token after its last target") {
  const EvalRun command(33);
  CHECK(tokens_of(command.json({"--text", command.text, "--block", "16"})) == 16);
  CHECK(tokens_of(command.json({"--text", command.text, "--block", "15"})) == 30);
  const CommandResult short_text = command.run({"--text", command.text, "--block", "32"});
  CHECK(short_text.exit_code == 1);
  CHECK(short_text.err.find("at least 34 tokens") != std::string::npos);
}

TEST_CASE("bdh eval: one stream predicts every byte but the first, whatever the chunk") {
  const EvalRun command(100);
  const double expected = expected_nats(command, 1, 99);
  for (const char* chunk : {"1", "7", "99", "1000"}) {
    const Json result = command.json({"--text", command.text, "--stream", "--chunk", chunk});
    CHECK(tokens_of(result) == 99);
    CHECK(nats_of(result) == doctest::Approx(expected).epsilon(1e-5));
  }
  CHECK(nats_of(command.json({"--text", command.text, "--stream", "--form", "recurrent"})) ==
        doctest::Approx(expected).epsilon(1e-5));
  CHECK(command.run({"--text", command.text, "--stream", "--form", "parallel"}).exit_code == 1);
}

TEST_CASE("bdh eval: the same bits whatever the threads" * doctest::skip(bdh::test::kOnCuda)) {
  const EvalRun command(300);
  for (const char* form : {"parallel", "chunked", "recurrent"}) {
    const auto nats = [&](const char* threads) {
      return nats_of(
          command.json({"--text", command.text, "--block", "32", "--form", form, "--threads", threads}));
    };
    CHECK(nats("1") == nats("2"));
    CHECK(nats("1") == nats("5"));
  }
}

TEST_CASE("bdh eval: offset, limit and standard input choose the same bytes") {
  const EvalRun command(200);
  const std::string tail = sample_text(200).substr(120, 50);
  const double expected = nats_of(command.json({"--text", "-", "--stream"}, tail));
  const auto nats = [&](const std::string& offset) {
    return nats_of(command.json({"--text", command.text, "--stream", "--offset", offset, "--limit", "50"}));
  };
  CHECK(nats("120") == expected);
  CHECK(nats("-80") == expected);
  CHECK(nats_of(command.json({"--text", "-", "--stream", "--offset", "120", "--limit", "50"},
                             sample_text(200))) == expected);
  CHECK(command.run({"--text", "-", "--stream", "--offset", "-80"}, tail).exit_code == 1);
}

TEST_CASE("bdh eval: texts that cannot be read") {
  const EvalRun command(10);
  CHECK(command.run({"--text", command.directory.path().string()}).exit_code == 1);
  CHECK(command.run({"--text", command.text + ".none"}).err.find("No such file") != std::string::npos);
  CHECK(command.run({"--text", command.text, "--stream", "--limit", "1"}).exit_code == 1);
  CHECK(command.run({"--text", command.text, "--stream", "--offset", "1000000"}).exit_code == 1);
}
