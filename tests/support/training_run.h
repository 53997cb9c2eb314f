// A small training run for tests of `bdh train`: a text, a config, and the flags of some seconds less than
// one.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "tests/support/command.h"
#include "tests/support/temporary.h"

namespace bdh::test {

class TrainingRun {
 public:
  TrainingRun();

  std::filesystem::path operator/(std::string_view name) const { return directory_ / name; }
  /// Of 24 steps into `out`, with validations, checkpoints, dropout and accumulation. Later flags win.
  std::vector<std::string> arguments(const std::string& out, const std::vector<std::string>& more = {}) const;
  CommandResult train(const std::string& out, const std::vector<std::string>& more = {}) const;
  /// The same with --resume.
  CommandResult resume(const std::string& out, const std::vector<std::string>& more = {}) const;

  std::string text() const { return (directory_ / "text.txt").string(); }
  std::string config() const { return (directory_ / "config.json").string(); }

 private:
  TemporaryDirectory directory_;
};

/// Lines that have no order in them.
std::string training_text(size_t bytes);

/// metrics.jsonl of a run's folder, without what depends on the clock.
std::vector<Json> metrics_of(const std::filesystem::path& out);
/// Until a run that goes on in `out` has done some steps; requires that it comes to that.
void wait_for_steps(const std::filesystem::path& out);
/// The bytes of a model directory's tensors.
std::string tensors_of(const std::filesystem::path& model);

}  // namespace bdh::test
