// `bdh memory`: the estimate, what it is made of, and the peak of a real run beside it. Runs the built
// program.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "tests/support/backends.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/outcome.h"
#include "tests/support/temporary.h"

namespace {

using bdh::Config;
using bdh::Json;
using bdh::test::joined;
using bdh::test::json_of;
using bdh::test::run_command;
using bdh::test::TemporaryDirectory;

Json memory(const TemporaryDirectory& directory, const std::vector<std::string>& more) {
  return json_of(run_command(joined({"memory", directory.path().string(), "--json"}, more)));
}

int64_t weights(const Json& json, const char* dtype) {
  return json.find("weights_bytes")->find(dtype)->as_integer();
}

}  // namespace

TEST_CASE("bdh memory: halves with the dtype, and does not grow with the text") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  const Json json = memory(directory, {"--context", "256,1000,1000000", "--sessions", "3"});
  const Config config = bdh::test::tiny_config();
  CHECK(json.find("parameters")->as_integer() == config.parameters());
  CHECK(weights(json, "F32") >= 4 * config.parameters());
  CHECK(weights(json, "BF16") >= 2 * config.parameters());
  CHECK(weights(json, "BF16") < weights(json, "F32"));
  CHECK(weights(json, "BF16") == weights(json, "F16"));
  CHECK(json.find("sessions_bytes")->as_integer() >= 3 * config.state_bytes());
  const Json::Array& contexts = json.find("contexts")->as_array();
  REQUIRE(contexts.size() == 3);
  CHECK(contexts[0].find("total_bytes")->find("F32")->as_integer() ==
        weights(json, "F32") + json.find("sessions_bytes")->as_integer() +
            contexts[0].find("working_bytes")->as_integer());
  CHECK(*contexts[0].find("working_bytes") == *contexts[2].find("working_bytes"));
}

TEST_CASE("bdh memory: weights for each layer") {
  TemporaryDirectory tied, untied;
  Config config = bdh::test::tiny_config();
  bdh::test::write_model(tied.path(), config);
  bdh::test::write_model(untied.path(), bdh::test::untied(config));
  const Json one = memory(tied, {}), two = memory(untied, {});
  for (const char* dtype : {"F32", "BF16", "F16"})
    CHECK(weights(two, dtype) - weights(one, dtype) >= (dtype == std::string("F32") ? 4 : 2) * 3 * 64 * 16);
  CHECK(*one.find("sessions_bytes") == *two.find("sessions_bytes"));
}

TEST_CASE("bdh memory: a state as bfloat16") {
  TemporaryDirectory directory;
  Config config = bdh::test::tiny_config();
  config.n_embd = 128;
  bdh::test::write_model(directory.path(), config);
  const std::vector<std::string> rounded{"--state-dtype", "bf16"};
  if (bdh::test::kOnCuda) {
    const auto refused = run_command({"memory", directory.path().string(), "--state-dtype", "bf16"});
    CHECK(refused.exit_code == 1);
    CHECK(refused.err.find("keeps a session's state as F32") != std::string::npos);
    return;
  }
  const Json exact = memory(directory, {}), half = memory(directory, rounded);
  CHECK(exact.find("state_dtype")->as_string() == "F32");
  CHECK(half.find("state_dtype")->as_string() == "BF16");
  CHECK(exact.find("sessions_bytes")->as_integer() - half.find("sessions_bytes")->as_integer() ==
        config.state_bytes() / 2);
}

#ifndef BDH_SANITIZED  // whose own memory would be measured
TEST_CASE("bdh memory: the estimate is what a run takes") {
  Config config = bdh::test::tiny_config();
  config.n_embd = 128;
  config.mlp_internal_dim_multiplier = 256;
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path(), config);
  for (const char* dtype : {"f32", "bf16"}) {
    CAPTURE(dtype);
    const Json json = memory(
        directory, {"--measure", "--device", "cpu", "--dtype", dtype, "--threads", "2", "--chunk", "64"});
    const Json& measured = *json.find("measured");
    const auto estimate = static_cast<double>(measured.find("estimate_bytes")->as_integer());
    const auto took = static_cast<double>(measured.find("peak_bytes")->as_integer() -
                                          measured.find("program_bytes")->as_integer());
    CHECK(took > 0.9 * estimate);
    CHECK(took < 1.1 * estimate + 4e6);
  }
}
#endif

TEST_CASE("bdh memory: a wrong context is wrong usage") {
  CHECK(run_command({"memory", "nowhere", "--context", "0"}).exit_code == 2);
  CHECK(run_command({"memory", "nowhere"}).exit_code == 1);
}
