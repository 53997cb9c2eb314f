// The `bdh` command running beside the test, to be signalled or killed.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

#include "tests/support/command.h"
#include "tests/support/temporary.h"

namespace bdh::test {

class RunningCommand {
 public:
  explicit RunningCommand(const std::vector<std::string>& arguments);
  /// Kills it, where it still runs.
  ~RunningCommand();
  RunningCommand(const RunningCommand&) = delete;
  RunningCommand& operator=(const RunningCommand&) = delete;

  void signal(int number) const;
  /// What it has said on stderr.
  std::string said() const;
  CommandResult wait();

 private:
  TemporaryDirectory files_;
  pid_t process_ = 0;
};

/// What became of it when it was sent a signal after that time: it may have ended before.
CommandResult signalled_after(std::chrono::microseconds delay, int signal,
                              const std::vector<std::string>& arguments);

}  // namespace bdh::test
