// The command as a user meets it: help, exit codes, one line for each failure. Runs the built program.

#include "tests/support/command.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "tests/support/models.h"
#include "tests/support/outcome.h"
#include "tests/support/temporary.h"

namespace {

using bdh::test::check_failure;
using bdh::test::CommandResult;
using bdh::test::run_command;
using bdh::test::Stdout;
using bdh::test::TemporaryDirectory;
using bdh::test::write_file;
using bdh::test::write_model;

}  // namespace

TEST_CASE("bdh: help and version") {
  for (const auto& arguments : std::vector<std::vector<std::string>>{{}, {"--help"}}) {
    const CommandResult result = run_command(arguments);
    CHECK(result.exit_code == 0);
    CHECK(result.err.empty());
    for (const char* name : {"generate", "chat", "logits", "eval", "inspect"})
      CHECK_MESSAGE(result.out.find(name) != std::string::npos, name);
  }
  CHECK(run_command({"--version"}).out.starts_with("bdh "));
}

TEST_CASE("bdh: every subcommand's help has an example") {
  for (const char* name : {"generate", "chat", "logits", "eval", "inspect"}) {
    const CommandResult result = run_command({name, "--help"});
    CHECK(result.exit_code == 0);
    CHECK_MESSAGE(result.out.find("bdh " + std::string(name)) != std::string::npos, result.out);
    CHECK_MESSAGE(result.out.find("--threads") != std::string::npos, result.out);
    CHECK_MESSAGE(result.out.find("--device") != std::string::npos, result.out);
  }
}

TEST_CASE("bdh: wrong usage is exit code 2") {
  check_failure(run_command({"fly"}), 2, "bdh --help");
  check_failure(run_command({"eval"}), 2, "bdh eval --help");
  check_failure(run_command({"eval", "dir", "--text", "x", "--wings"}), 2, "--wings");
  check_failure(run_command({"eval", "dir", "--text", "x", "--block", "0"}), 2, "--block");
  check_failure(run_command({"eval", "dir", "--text", "x", "--threads", "-1"}), 2, "--threads");
  check_failure(run_command({"logits", "dir", "--out", "x"}), 2, "tokens");
  check_failure(run_command({"logits", "dir", "--out", "x", "--tokens", "1", "--form", "square"}), 2,
                "--form");
  check_failure(run_command({"inspect", "dir", "--sparsity"}), 2, "--text");
}

TEST_CASE("bdh: what cannot be loaded is exit code 1 and one line") {
  TemporaryDirectory directory;
  const std::string path = directory.path().string();
  check_failure(run_command({"inspect", path + "/none"}), 1, "no such file or directory");
  check_failure(run_command({"inspect", path}), 1, "config.json");
  check_failure(run_command({"inspect", path + "/bad\nname"}), 1, "bad\\nname");
  write_model(directory.path());
  check_failure(run_command({"logits", path, "--tokens", "1", "--out", path + "/o", "--device", "cuda:4095"}),
                1, "--device cpu");
  check_failure(run_command({"logits", path, "--tokens", "1", "--out", path + "/o", "--device", "moon"}), 1,
                "device");
  write_file(directory / "config.json", R"({"n_layer": 1000000000000000000})");
  for (const char* command : {"inspect", "chat"}) check_failure(run_command({command, path}), 1, "n_layer");
  check_failure(run_command({"generate", path, "--prompt", "x"}), 1, "n_layer");
}

TEST_CASE("bdh: a full disk is an error, a reader that has gone ends quietly") {
  TemporaryDirectory directory;
  write_model(directory.path());
  const std::vector<std::vector<std::string>> lines{{"--help"}, {"inspect", directory.path().string()}};
  for (const auto& arguments : lines) {
    check_failure(run_command(arguments, "", Stdout::full_disk), 1, "standard output");
    const CommandResult closed = run_command(arguments, "", Stdout::closed_pipe);
    CHECK(closed.exit_code == 1);
    CHECK(closed.err.empty());
  }
}
