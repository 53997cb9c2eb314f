// Event files: the bytes that the tensorboard package reads (tests/parity/training_files_parity.py), and the
// files of a run that is resumed.
#include "bdh/train/event_file.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

using namespace bdh;
using test::read_file;
using test::TemporaryDirectory;
using test::thrown_by;
namespace fs = std::filesystem;

namespace {

StepMetrics metrics_of(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 5.5 - 0.25 * static_cast<double>(step);
  metrics.rate = 0.001;
  metrics.gradient_norm = 2;
  metrics.tokens_per_second = 1000;
  return metrics;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("event file: the records that TensorBoard was seen to read") {
  StepMetrics full = metrics_of(300);
  full.valid_loss = 1.5;
  full.valid_bits_per_byte = 2.25;
  full.ema_valid_loss = 1.25;
  full.sample = "To be,\nor not \xc3\xa9\xff";
  const std::string records = version_record(1700000000.5) + session_record(1700000000.5, 1) +
                              metrics_record(1700000001.0, metrics_of(1)) +
                              metrics_record(1700000002.0, full);
  CHECK(records == read_file(fs::path(test::kTestData) / "training/events.out.tfevents.golden"));
}

TEST_CASE("event file: each session has a file behind those before") {
  const TemporaryDirectory directory;
  const fs::path folder = directory / "runs/a";
  std::vector<std::string> made;
  for (int64_t session = 0; session < 3; ++session) {
    EventFile file(folder, 10 * session);
    file.add(metrics_of(10 * session + 1));
    for (const std::string& name : names_in(folder))
      if (std::find(made.begin(), made.end(), name) == made.end()) made.push_back(name);
  }
  REQUIRE(made.size() == 3);
  CHECK(std::is_sorted(made.begin(), made.end()));
  const size_t size =
      version_record(0).size() + session_record(0, 1).size() + metrics_record(0, metrics_of(1)).size();
  for (const std::string& name : made) CHECK(fs::file_size(folder / name) == size);
  directory.write("file", "");
  CHECK(thrown_by([&] { EventFile(directory / "file", 0); }).kind == ErrorKind::io);
}

// Read with the tensorboard package by tests/parity/training_files_parity.py, which sets the variable.
TEST_CASE("parity: write training files: events") {
  const char* out = std::getenv("BDH_PARITY_TRAINING");
  if (out == nullptr) return;
  const fs::path folder = fs::path(out) / "events";
  const auto add_steps = [&](int64_t first, int64_t last, double above, double valid, const char* sample) {
    EventFile file(folder, first - 1);
    for (int64_t step = first; step <= last; ++step) {
      StepMetrics metrics = metrics_of(step);
      metrics.loss = above + static_cast<double>(step);
      if (step % 5 == 0 && step != 5) metrics.valid_loss = valid, metrics.sample = sample;
      file.add(metrics);
    }
  };
  add_steps(1, 10, 0, 0.5, "ten \xc3\xa9");
  add_steps(11, 20, 0, 0.75, "lost");
  const std::vector<std::string> names = names_in(folder);
  fs::resize_file(folder / names.back(), fs::file_size(folder / names.back()) - 7);
  add_steps(13, 15, 100, 0.25, "fifteen \xc3\xa9");
}
