// `bdh logits`: the file it writes, the forms, and tokens that are none. Runs the built program.

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"

namespace {

using bdh::test::CommandResult;
using bdh::test::joined;
using bdh::test::run_command;
using bdh::test::TemporaryDirectory;
using bdh::test::values;
using bdh::test::write_model;

struct LogitsRun {
  TemporaryDirectory directory;
  std::string model = directory.path().string();
  std::string out = (directory / "logits.safetensors").string();

  LogitsRun() { write_model(directory.path()); }

  CommandResult run(const std::vector<std::string>& more, const std::string& input = {}) const {
    return run_command(joined({"logits", model, "--out", out}, more), input);
  }

  std::vector<float> logits(const std::vector<std::string>& more, const std::string& input = {}) const {
    const CommandResult result = run(more, input);
    REQUIRE_MESSAGE(result.exit_code == 0, result.err);
    const bdh::Tensor tensor = bdh::SafetensorsFile::open(out).tensor("logits");
    REQUIRE(tensor.dtype == bdh::DType::f32);
    REQUIRE(tensor.shape.size() == 2);
    CHECK(tensor.shape[1] == 256);
    return values<float>(tensor);
  }
};

float largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  float largest = 0;
  for (size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(a[i] - b[i]));
  return largest;
}

}  // namespace

TEST_CASE("bdh logits: the three forms agree, from an option, a file and standard input") {
  const LogitsRun command;
  const std::vector<float> parallel = command.logits({"--tokens", "84,111,32,0,255"});
  CHECK(parallel.size() == 5 * 256);
  CHECK(largest_difference(parallel,
                           command.logits({"--tokens", "84, 111 32,0,255", "--form", "recurrent"})) < 1e-4f);
  const std::string file = (command.directory / "tokens.txt").string();
  bdh::test::write_file(file, "84\n111\n32\n0\n255\n");
  CHECK(largest_difference(
            parallel, command.logits({"--tokens-file", file, "--form", "chunked", "--chunk", "2"})) < 1e-4f);
  CHECK(parallel == command.logits({"--tokens-file", "-"}, "84 111 32 0 255"));
  CHECK(parallel == command.logits({"--tokens", "84,111,32,0,255", "--threads", "1"}));
}

TEST_CASE("bdh logits: the summary") {
  const LogitsRun command;
  CHECK(command.run({"--tokens", "1"}).out.empty());
  const std::string summary = command.run({"--tokens", "1,2", "--json", "--dtype", "bf16"}).out;
  CHECK(summary.find("\"tokens\": 2") != std::string::npos);
  CHECK(summary.find("\"dtype\": \"BF16\"") != std::string::npos);
}

TEST_CASE("bdh logits: tokens that are none") {
  const LogitsRun command;
  const auto refused = [&](const std::string& tokens, const std::string& part) {
    const CommandResult result = command.run({"--tokens=" + tokens});
    CHECK(result.exit_code == 1);
    CHECK_MESSAGE(result.err.find(part) != std::string::npos, result.err);
    CHECK_FALSE(std::filesystem::exists(command.out));
  };
  refused("1,256", "token 1 is 256, outside the vocabulary 0 to 255");
  refused("-1", "token 0 is -1, outside");
  refused("1,2,x", "token 2 is 'x'");
  refused("1,2.5", "token 1 is '2.5'");
  refused("99999999999", "token 0 is '99999999999'");
  refused(",", "no tokens");
}

TEST_CASE("bdh logits: with a horizon the three forms agree, wherever the text starts") {
  const LogitsRun command;
  const std::vector<std::string> tokens{"--tokens", "84,111,32,0,255,7,7,19", "--horizon", "2.5,inf"};
  const std::vector<float> expected = command.logits(tokens);
  CHECK(largest_difference(expected, command.logits({"--tokens", "84,111,32,0,255,7,7,19"})) > 1e-3f);
  for (const char* start : {"0", "100000", "16000000", "1099511627776"}) {
    for (const char* form : {"parallel", "chunked", "recurrent"}) {
      CAPTURE(start);
      CAPTURE(form);
      const auto logits = command.logits(joined(tokens, {"--form", form, "--start", start, "--chunk", "3"}));
      CHECK(largest_difference(expected, logits) < 1e-4f);
    }
  }
}

TEST_CASE("bdh logits: positions end at 2^53") {
  const LogitsRun command;
  CHECK(command.logits({"--tokens", "1,2", "--start", "9007199254740990"}).size() == 512);
  const CommandResult result = command.run({"--tokens", "1,2,3", "--start", "9007199254740990"});
  CHECK(result.exit_code == 1);
  CHECK(result.err.find("positions end at 2^53") != std::string::npos);
  CHECK(command.run({"--tokens", "1", "--start", "-1"}).exit_code == 2);
  CHECK(command.run({"--tokens", "1", "--start", "9007199254740993"}).exit_code == 2);
}
