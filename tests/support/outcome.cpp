// Outcomes of commands, looked at with doctest.
#include "tests/support/outcome.h"

#include <doctest/doctest.h>

#include <algorithm>

namespace bdh::test {

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

std::string output_of(const CommandResult& result) {
  REQUIRE_MESSAGE(result.exit_code == 0, result.err);
  return result.out;
}

Json json_of(const CommandResult& result) { return Json::parse(output_of(result), "stdout"); }

void check_failure(const CommandResult& result, int exit_code, std::string_view part) {
  CHECK_MESSAGE(result.exit_code == exit_code, result.err);
  CHECK(result.out.empty());
  CHECK_MESSAGE(std::count(result.err.begin(), result.err.end(), '\n') == 1, result.err);
  const bool named = result.err.starts_with("bdh: error: ") || result.err.starts_with("bdh-bench: error: ");
  CHECK_MESSAGE(named, result.err);
  CHECK_MESSAGE(has(result.err, part), result.err);
}

}  // namespace bdh::test
