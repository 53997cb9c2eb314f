// Runs built programs, the `bdh` command above all.
#include "tests/support/command.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdexcept>

#include "tests/support/programs.h"
#include "tests/support/temporary.h"

namespace bdh::test {
namespace {

/// A descriptor that stands for a pipe whose reader has gone.
int closed_pipe() {
  int ends[2];
  if (pipe(ends) != 0) throw std::runtime_error("pipe");
  close(ends[0]);
  return ends[1];
}

int open_stdout(Stdout where, const std::filesystem::path& capture) {
  if (where == Stdout::closed_pipe) return closed_pipe();
  if (where == Stdout::full_disk) return open("/dev/full", O_WRONLY | O_CLOEXEC);
  return open(capture.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
}

int wait_for(pid_t process) {
  int status = 0;
  waitpid(process, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

CommandResult run_program(const char* path, const std::vector<std::string>& arguments,
                          const std::string& input, Stdout where) {
  TemporaryDirectory files;
  write_file(files / "in", input);
  const int descriptors[3] = {open((files / "in").c_str(), O_RDONLY | O_CLOEXEC),
                              open_stdout(where, files / "out"),
                              open((files / "err").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600)};
  std::vector<std::string> words = arguments;
  words.insert(words.begin(), path);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  for (int i = 0; i < 3; ++i) posix_spawn_file_actions_adddup2(&actions, descriptors[i], i);
  pid_t process = 0;
  const int failed = posix_spawn(&process, path, &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  for (const int descriptor : descriptors) close(descriptor);
  if (failed) throw std::runtime_error(std::string("cannot start ") + path);
  const int code = wait_for(process);
  return {code, read_file(files / "out"), read_file(files / "err")};
}

std::vector<std::string> joined(std::vector<std::string> first, const std::vector<std::string>& more) {
  first.insert(first.end(), more.begin(), more.end());
  return first;
}

CommandResult run_command(const std::vector<std::string>& arguments, const std::string& input, Stdout where) {
  return run_program(kCommand, arguments, input, where);
}

}  // namespace bdh::test
