// The frame of a program: signals, and every failure as one line and an exit code.
#pragma once

#include <functional>
#include <string>

namespace bdh::tools {

/// Runs `body` and returns the exit code: 0 done, 1 failed, 2 wrong usage (UsageError), 130 interrupted, 143
/// by a SIGTERM that was caught. `name` begins the line of an error.
int run_program(const std::string& name, const std::function<void()>& body);

}  // namespace bdh::tools
