// `bdh validate`: a line for each check, and the exit code. Runs the built program.

#include <doctest/doctest.h>

#include <string>

#include "bdh/base/json.h"
#include "tests/support/command.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"

using bdh::test::CommandResult;
using bdh::test::run_command;
using bdh::test::TemporaryDirectory;

TEST_CASE("bdh validate: a sound directory and a broken one") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  const CommandResult sound = run_command({"validate", directory.path().string()});
  CHECK_MESSAGE(sound.exit_code == 0, sound.err);
  CHECK(sound.err.empty());
  CHECK(sound.out.find("passed   generation") != std::string::npos);

  bdh::test::write_file(directory / "config.json", "{");
  const CommandResult broken = run_command({"validate", directory.path().string(), "--json"});
  CHECK(broken.exit_code == 1);
  CHECK(broken.err.find("1 of 9 checks failed") != std::string::npos);
  const bdh::Json json = bdh::Json::parse(broken.out, "stdout");
  CHECK(!json.find("valid")->as_bool());
  CHECK(json.find("checks")->as_array()[1].find("verdict")->as_string() == "failed");
  CHECK(json.find("checks")->as_array()[2].find("verdict")->as_string() == "passed");
}
