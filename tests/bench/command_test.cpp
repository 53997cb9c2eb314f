// bdh-bench: what it says of itself, of wrong arguments, of a build without benchmarks and of a machine
// without a GPU. Runs the built program; measures nothing.
#include <doctest/doctest.h>

#include "tests/support/command.h"
#include "tests/support/outcome.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"

using bdh::test::check_failure;
using bdh::test::CommandResult;
using bdh::test::has;

namespace {

CommandResult run_bench(const std::vector<std::string>& arguments) {
  return bdh::test::run_program(bdh::test::kBenchCommand, arguments);
}

}  // namespace

TEST_CASE("bdh-bench: --help names its options and has an example") {
  const CommandResult result = run_bench({"--help"});
  CHECK(result.exit_code == 0);
  for (const char* option :
       {"--device", "--kernel", "--shape", "--dtype", "--batch", "--threads", "--json", "--quick",
        "--no-peers", "--chart", "--from", "--model", "--seconds", "Example: bdh-bench"})
    CHECK_MESSAGE(has(result.out, option), option);
}

TEST_CASE("bdh-bench: wrong arguments are one line") {
  check_failure(run_bench({"--dtype", "f8"}), 2, "--dtype");
  check_failure(run_bench({"--batch", "0"}), 2, "--batch");
  check_failure(run_bench({"--seconds", "0"}), 2, "--seconds");
  check_failure(run_bench({"--wings"}), 2, "bdh-bench --help");
  check_failure(run_bench({"--shape", "large"}), 1, "6x256x4x128");
  check_failure(run_bench({"--shape", "trained"}), 1, "--model DIR");
  check_failure(run_bench({"--kernel", "(["}), 1, "regular expression");
  check_failure(run_bench({"--device", "tpu"}), 1, "device must be");
}

#ifndef BDH_BENCH_CPU
TEST_CASE("bdh-bench: a build without benchmarks says how to have them") {
  check_failure(run_bench({"--device", "cpu"}), 1, "make bench");
}
#endif

TEST_CASE("bdh-bench: a GPU that is not there is one line") {
  check_failure(run_bench({"--device", "cuda:99"}), 1, "--device cpu");
}
