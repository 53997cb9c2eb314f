// Starting, signalling and awaiting a command.
#include "tests/support/running_command.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>
#include <thread>

#include "tests/support/programs.h"

namespace bdh::test {

RunningCommand::RunningCommand(const std::vector<std::string>& arguments) {
  std::vector<std::string> words = joined({"bdh"}, arguments);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  const std::string out = (files_ / "out").string(), err = (files_ / "err").string();
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, out.c_str(), O_WRONLY | O_CREAT, 0600);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, err.c_str(), O_WRONLY | O_CREAT, 0600);
  const int failed = posix_spawn(&process_, kCommand, &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (failed) throw std::runtime_error("cannot start bdh");
}

RunningCommand::~RunningCommand() {
  if (process_ == 0) return;
  signal(SIGKILL);
  ::waitpid(process_, nullptr, 0);
}

void RunningCommand::signal(int number) const { ::kill(process_, number); }

std::string RunningCommand::said() const { return read_file(files_ / "err"); }

CommandResult RunningCommand::wait() {
  int status = 0;
  ::waitpid(process_, &status, 0);
  process_ = 0;
  const int code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return {code, read_file(files_ / "out"), read_file(files_ / "err")};
}

CommandResult signalled_after(std::chrono::microseconds delay, int signal,
                              const std::vector<std::string>& arguments) {
  RunningCommand command(arguments);
  std::this_thread::sleep_for(delay);
  command.signal(signal);
  return command.wait();
}

}  // namespace bdh::test
