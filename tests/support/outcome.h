// What tests ask of a command that has run: its output, or the one line of its failure.
#pragma once

#include <string>
#include <string_view>

#include "bdh/base/json.h"
#include "tests/support/command.h"

namespace bdh::test {

bool has(std::string_view text, std::string_view part);

/// Its stdout; requires that it succeeded.
std::string output_of(const CommandResult& result);
Json json_of(const CommandResult& result);

/// Checks that it ended with that exit code, wrote nothing, and that its one line of error has `part` in it.
void check_failure(const CommandResult& result, int exit_code, std::string_view part);

}  // namespace bdh::test
