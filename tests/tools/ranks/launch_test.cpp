// `bdh train` as one of several processes, where MPI is missing. With MPI: tests/parity/ranks_parity.py.

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/support/command.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"

namespace {

namespace fs = std::filesystem;
using bdh::test::CommandResult;
using bdh::test::TemporaryDirectory;

/// What a launcher tells its processes, while this lives.
struct Launched {
  const char *size_name, *rank_name;
  Launched(const char* size, const char* processes, const char* rank, const char* number)
      : size_name(size), rank_name(rank) {
    setenv(size, processes, 1);
    setenv(rank, number, 1);
  }
  ~Launched() {
    unsetenv(size_name);
    unsetenv(rank_name);
  }
};

/// A bdh without a module beside it.
struct Alone {
  TemporaryDirectory folder;
  fs::path command = folder / "bdh";
  Alone() { fs::copy_file(bdh::test::kCommand, command); }

  CommandResult train() const {
    const std::string text = folder / "text", config = folder / "config.json";
    bdh::test::write_file(text, std::string(200, 'b'));
    bdh::test::write_file(config,
                          R"({"n_layer": 1, "n_embd": 8, "n_head": 1, "mlp_internal_dim_multiplier": 2,
                                      "vocab_size": 256, "dropout": 0.0})");
    return bdh::test::run_program(
        command.c_str(), {"train", "--data", text, "--config", config, "--steps", "1", "--batch", "1",
                          "--block", "8", "--out", folder / "out"});
  }
  bool wrote() const { return fs::exists(folder / "out"); }
};

}  // namespace

TEST_CASE("bdh train: several processes without MPI are refused before anything is written") {
  const Alone alone;
  {
    const Launched first("OMPI_COMM_WORLD_SIZE", "2", "OMPI_COMM_WORLD_RANK", "0");
    const CommandResult result = alone.train();
    CHECK(result.exit_code == 1);
    CHECK(result.err.find("bdh: error: 2 processes were started (OMPI_COMM_WORLD_SIZE)") == 0);
    CHECK(result.err.find("make MPI=ON") != result.err.npos);
  }
  {
    const Launched second("SLURM_STEP_NUM_TASKS", "3", "SLURM_PROCID", "1");
    const CommandResult result = alone.train();
    CHECK(result.exit_code == 1);
    CHECK(result.err == "");  // the first says it
  }
  CHECK_FALSE(alone.wrote());
}

TEST_CASE("bdh train: one process of a launcher needs no MPI") {
  const Alone alone;
  const Launched only("OMPI_COMM_WORLD_SIZE", "1", "OMPI_COMM_WORLD_RANK", "0");
  const CommandResult result = alone.train();
  CHECK(result.exit_code == 0);
  CHECK(alone.wrote());
}
