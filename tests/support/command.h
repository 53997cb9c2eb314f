// Runs built programs, the `bdh` command above all.
#pragma once

#include <string>
#include <vector>

namespace bdh::test {

enum class Stdout { captured, full_disk, closed_pipe };

struct CommandResult {
  int exit_code = 0;  // 128 + signal when a signal ended it
  std::string out, err;
};

CommandResult run_program(const char* path, const std::vector<std::string>& arguments,
                          const std::string& input = {}, Stdout where = Stdout::captured);

/// `first`, then `more`.
std::vector<std::string> joined(std::vector<std::string> first, const std::vector<std::string>& more);

/// The `bdh` command.
CommandResult run_command(const std::vector<std::string>& arguments, const std::string& input = {},
                          Stdout where = Stdout::captured);

}  // namespace bdh::test
