// Config: defaults, hostile sizes, unknown keys, and the frequencies of rotation.
#include "bdh/model/config.h"

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/error.h"

namespace {

using bdh::Config;
using bdh::Json;

Config parse(std::string_view text, std::vector<std::string>* warnings = nullptr) {
  return Config::from_json(Json::parse(text, "config.json"), "config.json", warnings);
}

/// The error's message, or "" when the text is a good config.
std::string refusal(std::string_view text) {
  try {
    parse(text);
    return {};
  } catch (const bdh::Error& error) {
    CHECK(error.kind() == bdh::ErrorKind::bad_file);
    return error.what();
  }
}

void check_refused(std::string_view text, std::string_view field) {
  CAPTURE(text);
  const std::string message = refusal(text);
  CHECK(message.find("config.json") == 0);
  CHECK_MESSAGE(message.find(field) != std::string::npos, message);
  CHECK(message.find('\n') == std::string::npos);
}

}  // namespace

TEST_CASE("config: an empty object is the authors' default model") {
  const Config config = parse("{}");
  CHECK(config.n_layer == 6);
  CHECK(config.n_embd == 256);
  CHECK(config.dropout == 0.1);
  CHECK(config.n_head == 4);
  CHECK(config.mlp_internal_dim_multiplier == 128);
  CHECK(config.vocab_size == 256);
  CHECK(config.neurons_per_head() == 8192);
  CHECK(config.parameters() == 3 * 32768 * 256 + 2 * 256 * 256);
  CHECK(config.state_bytes() == int64_t{4} * 6 * 32768 * 256);
}

TEST_CASE("config: the division of neurons among heads drops the rest") {
  Config config;
  config.n_embd = 33;
  config.n_head = 4;
  config.mlp_internal_dim_multiplier = 1;
  CHECK(config.neurons_per_head() == 8);
  CHECK_NOTHROW(config.validate());
  CHECK(config.parameters() == 3 * 32 * 33 + 2 * 256 * 33);
}

TEST_CASE("config: written as BDHConfig has it, and read back") {
  Config config =
      parse(R"({"n_layer": 3, "zeta": [1, null], "n_embd": 64, "dropout": 0, "model_type": "bdh"})");
  CHECK(config.to_json().dump() ==
        R"({"n_layer": 3, "n_embd": 64, "dropout": 0.0, "n_head": 4, "mlp_internal_dim_multiplier": 128, )"
        R"("vocab_size": 256, "zeta": [1, null], "model_type": "bdh"})");
  CHECK(parse(config.to_json().dump()).to_json() == config.to_json());
}

TEST_CASE("config: weights for each layer are counted, and said only where they are there") {
  Config config = parse(R"({"n_layer": 3, "tie_layers": false})");
  CHECK(config.sets() == 3);
  CHECK(config.extra.empty());
  CHECK(config.parameters() == int64_t{3} * 3 * 32768 * 256 + 2 * 256 * 256);
  CHECK(config.to_json().dump() ==
        R"({"n_layer": 3, "n_embd": 256, "dropout": 0.1, "n_head": 4, "mlp_internal_dim_multiplier": 128, )"
        R"("vocab_size": 256, "tie_layers": false})");
  CHECK(parse(config.to_json().dump()).to_json() == config.to_json());
  config = parse(R"({"n_layer": 3, "tie_layers": true})");
  CHECK(config.sets() == 1);
  CHECK_FALSE(config.to_json().find("tie_layers"));
  for (const char* strange : {"0", "\"false\"", "null", "[false]", "{}"})
    check_refused("{\"tie_layers\": " + std::string(strange) + "}", "tie_layers");
  const std::string large = R"("n_embd": 1048576, "n_layer": 65536, "mlp_internal_dim_multiplier": 20)";
  CHECK(refusal("{" + large + "}").empty());
  check_refused("{" + large + R"(, "tie_layers": false})", "63 bits");
}

TEST_CASE("config: unknown keys are kept and warned about once, familiar ones kept silently") {
  std::vector<std::string> warnings;
  const Config config =
      parse(R"({"colour": "red", "model_type": "bdh", "dtype": "bfloat16", "size": 3})", &warnings);
  CHECK(config.extra.size() == 4);
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0] == "config.json: unknown keys kept but not used: 'colour', 'size'");
}

TEST_CASE("config: a flood of unknown keys is one short warning") {
  std::string text = "{";
  for (int i = 0; i < 1000; ++i) text += "\"k" + std::to_string(i) + "\": 0, ";
  std::vector<std::string> warnings;
  parse(text + "\"n_layer\": 1}", &warnings);
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("and 744 more") != std::string::npos);
}

TEST_CASE("config: whole numbers only, 6.0 included") {
  CHECK(parse(R"({"n_layer": 6.0})").n_layer == 6);
  check_refused(R"({"n_layer": 6.5})", "n_layer");
  check_refused(R"({"n_layer": "6"})", "n_layer");
  check_refused(R"({"n_embd": null})", "n_embd");
  check_refused(R"({"n_head": true})", "n_head");
  check_refused(R"({"vocab_size": [256]})", "vocab_size");
  check_refused(R"({"vocab_size": 1e300})", "vocab_size");
  check_refused(R"({"vocab_size": 18446744073709551615})", "vocab_size");
  check_refused(R"({"dropout": "none"})", "dropout");
  check_refused("[]", "object");
  check_refused("3", "object");
}

TEST_CASE("config: sizes out of range") {
  for (const char* field : {"n_layer", "n_embd", "n_head", "mlp_internal_dim_multiplier", "vocab_size"}) {
    check_refused("{\"" + std::string(field) + "\": 0}", field);
    check_refused("{\"" + std::string(field) + "\": -4}", field);
    check_refused("{\"" + std::string(field) + "\": 9223372036854775807}", field);
  }
  check_refused(R"({"n_layer": 1000000000000000000})", "n_layer");
  check_refused(R"({"n_layer": 65537})", "n_layer");
  check_refused(R"({"vocab_size": 2147483648})", "vocab_size");
  check_refused(R"({"dropout": 1})", "dropout");
  check_refused(R"({"dropout": -0.1})", "dropout");
  CHECK(refusal(R"({"n_layer": 65536, "n_embd": 16, "vocab_size": 2147483647})").empty());
}

TEST_CASE("config: sizes whose products overflow") {
  check_refused(R"({"n_embd": 4294967296, "mlp_internal_dim_multiplier": 4294967296})", "63 bits");
  check_refused(R"({"n_embd": 3037000500})", "63 bits");
  check_refused(R"({"n_embd": 1099511627776, "vocab_size": 2147483647, "mlp_internal_dim_multiplier": 1})",
                "63 bits");
  check_refused(R"({"n_embd": 16777216, "n_layer": 65536, "mlp_internal_dim_multiplier": 16777216})",
                "63 bits");
}

TEST_CASE("config: neurons must be even and present") {
  check_refused(R"({"n_embd": 6, "n_head": 2, "mlp_internal_dim_multiplier": 1})", "even");  // N 3
  check_refused(R"({"n_embd": 4, "n_head": 8, "mlp_internal_dim_multiplier": 1})", "even");  // N 0
  check_refused(R"({"n_embd": 7, "n_head": 7, "mlp_internal_dim_multiplier": 1})", "even");  // N 1
}

TEST_CASE("config: validate names the field") {
  Config config;
  config.n_head = -1;
  try {
    config.validate();
    FAIL("accepted a negative size");
  } catch (const bdh::Error& error) {
    CHECK(error.kind() == bdh::ErrorKind::invalid_argument);
    CHECK(std::string(error.what()) == "config: n_head must be positive, not -1");
  }
  config = {};
  config.dropout = std::nan("");
  CHECK_THROWS_AS(config.validate(), bdh::Error);
}
