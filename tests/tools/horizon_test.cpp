// `bdh horizon`: what it measures, draws and writes. Runs the built program.

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/model/horizon.h"
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

struct HorizonRun {
  TemporaryDirectory directory;
  std::string model = directory.path().string(), text = (directory / "text").string();

  explicit HorizonRun(size_t bytes) {
    bdh::test::write_model(directory.path());
    std::string sample;
    for (size_t i = 0; i < bytes; ++i) sample += static_cast<char>('a' + i * i % 23);
    bdh::test::write_file(text, sample);
  }

  CommandResult run(const std::vector<std::string>& more) const {
    return run_command(joined({"horizon", model}, more));
  }
  std::string config() const { return bdh::test::read_file(model + "/generation_config.json"); }
};

/// Nats per token of predicting text[1 .. tokens], as `bdh eval` has it.
double streamed(const HorizonRun& command, int tokens) {
  const Json json = json_of(run_command({"eval", command.model, "--text", command.text, "--stream",
                                         "--horizon", "6", "--limit", std::to_string(tokens + 1), "--json"}));
  return json.find("nats_per_token")->as_number();
}

TEST_CASE("horizon: nats per token by position, in the block and past it") {
  const HorizonRun command(101);
  const Json json = json_of(command.run({"--text", command.text, "--block", "24", "--json"}));
  CHECK(json.find("block")->as_integer() == 24);
  CHECK(json.find("tokens")->as_integer() == 100);
  const auto& rows = json.find("horizons")->as_array();
  CHECK(rows.front().find("horizon")->is_null());
  const Json& row = rows[3];
  REQUIRE(row.find("horizon")->as_number() == 6);
  const auto& bands = row.find("by_position")->as_array();
  REQUIRE(bands.size() == 4);
  CHECK(bands[2].find("from")->as_integer() == 48);
  CHECK(bands[2].find("to")->as_integer() == 96);
  CHECK(bands[2].find("nats_per_token")->as_number() ==
        doctest::Approx(2 * streamed(command, 96) - streamed(command, 48)).epsilon(1e-5));
  CHECK(row.find("nats_per_token")->as_number() == doctest::Approx(streamed(command, 100)).epsilon(1e-5));
}

TEST_CASE("horizon: the best is the row with the least loss, and --write puts it into generation_config") {
  const HorizonRun command(101);
  const Json json =
      json_of(command.run({"--text", command.text, "--block", "24", "--json", "--by-head", "--write"}));
  const Json& best = *json.find("best");
  double least = 1e9;
  for (const Json& row : json.find("horizons")->as_array())
    least = std::min(least, row.find("nats_per_token")->as_number());
  for (const Json& row : json.find("horizons")->as_array()) {
    if (row.find("horizon")->dump() == best.dump())
      CHECK(row.find("nats_per_token")->as_number() <= least + 1e-3);
  }
  CHECK(json.find("written")->as_bool());
  const bdh::Model model = bdh::Model::from_pretrained(command.model);
  CHECK(bdh::horizon_to_json(model.generation.horizon).dump() == best.dump());
}

TEST_CASE("horizon: a quarter of the block where there is no text; other keys stay") {
  const HorizonRun command(10);
  bdh::test::write_file(command.model + "/generation_config.json", R"({"top_k": 7, "mine": [1]})");
  const CommandResult result = command.run({"--block", "128", "--write"});
  CHECK(result.exit_code == 0);
  CHECK(result.out.starts_with("horizon 32: a quarter of the block of 128, written to "));
  const bdh::Model model = bdh::Model::from_pretrained(command.model);
  CHECK(model.generation.horizon == std::vector<float>{32});
  CHECK(model.generation.sampling.top_k == 7);
  REQUIRE(model.generation.extra.size() == 1);
  CHECK(model.generation.extra.front().first == "mine");
}

TEST_CASE("horizon: nothing is written unless it is asked for, and the picture names its lines") {
  const HorizonRun command(101);
  const std::string picture = (command.directory / "picture.svg").string();
  const CommandResult result = command.run({"--text", command.text, "--block", "24", "--picture", picture});
  CHECK(result.exit_code == 0);
  CHECK(result.out.find("  best\n") != std::string::npos);
  CHECK(bdh::Model::from_pretrained(command.model).generation.horizon.empty());
  const std::string svg = bdh::test::read_file(picture);
  CHECK(svg.find(">no horizon<") != std::string::npos);
  CHECK(svg.find(">horizon 6<") != std::string::npos);
}

TEST_CASE("horizon: what is missing is said in a line") {
  const HorizonRun command(20);
  CHECK(command.run({}).err.find("give its tokens as --block N") != std::string::npos);
  const CommandResult result = command.run({"--text", command.text, "--block", "24"});
  CHECK(result.exit_code == 1);
  CHECK(result.err.find("the text is too short: a block of 24 needs at least 25 tokens, not 20") !=
        std::string::npos);
  CHECK(command.run({"--by-head"}).exit_code == 2);
}

}  // namespace
