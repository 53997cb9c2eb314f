// Horizons as files and people write them.
#include "bdh/model/horizon.h"

#include <doctest/doctest.h>

#include <limits>

#include "bdh/base/error.h"
#include "bdh/text/generation_config.h"

namespace {

using bdh::Error;
using bdh::horizon_from_json;
using bdh::horizon_text;
using bdh::horizon_to_json;
using bdh::Json;
using bdh::parse_horizon;
using Horizon = std::vector<float>;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Horizon from(const char* json) { return horizon_from_json(Json::parse(json, "test")); }

TEST_CASE("a horizon in JSON is a number, inf as a string, or a list of them") {
  CHECK(from("48") == Horizon{48});
  CHECK(from("9.5") == Horizon{9.5f});
  CHECK(from("\"inf\"") == Horizon{kInfinity});
  CHECK(from("[12, \"inf\", 0.25]") == Horizon{12, kInfinity, 0.25f});
  CHECK(from("null").empty());
  for (const char* text : {"48", "9.5", "0.1", "\"inf\"", "[12, \"inf\", 0.25]", "null"})
    CHECK(horizon_to_json(from(text)).dump() == text);
}

TEST_CASE("a horizon that is no positive number of tokens is refused") {
  for (const char* text :
       {"0", "-1", "1e60", "1e-60", "\"Infinity\"", "\"48\"", "[]", "[48, 0]", "[[1]]", "true", "{}"}) {
    CAPTURE(text);
    CHECK_THROWS_WITH_AS(from(text), doctest::Contains("a horizon is a positive number of tokens"), Error);
  }
}

TEST_CASE("a horizon on the command line") {
  CHECK(parse_horizon("48") == Horizon{48});
  CHECK(parse_horizon("12,inf,0.5") == Horizon{12, kInfinity, 0.5f});
  CHECK(parse_horizon("none").empty());
  CHECK(horizon_text(parse_horizon("12,inf,0.5")) == "12,inf,0.5");
  CHECK(horizon_text({}) == "none");
  for (const char* text :
       {"", "0", "-3", "nan", "-inf", "infinity", "12,", ",12", "12,none", "1e99", "4 8", "0x10"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_horizon(text), Error);
  }
}

TEST_CASE("generation_config.json keeps its horizon") {
  const Json json = Json::parse(R"({"horizon": [12, "inf"], "top_k": 3})", "test");
  const auto config = bdh::GenerationConfig::from_json(json, "test");
  CHECK(config.horizon == Horizon{12, kInfinity});
  CHECK(config.to_json().find("horizon")->dump() == R"([12, "inf"])");
  CHECK(bdh::GenerationConfig().to_json().find("horizon") == nullptr);
  CHECK_THROWS_WITH_AS(bdh::GenerationConfig::from_json(Json::parse(R"({"horizon": 0})", "f"), "f"),
                       doctest::Contains("f: horizon: "), Error);
}

}  // namespace
