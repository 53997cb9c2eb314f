// metrics.jsonl: its lines, and what a resumed run finds of them.
#include "bdh/train/metrics_file.h"

#include <doctest/doctest.h>

#include <limits>
#include <string>

#include "tests/support/file_size_limit.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

using namespace bdh;
using test::read_file;
using test::TemporaryDirectory;
using test::thrown_by;

namespace {

StepMetrics metrics_of(int64_t step) {
  StepMetrics metrics;
  metrics.step = step;
  metrics.loss = 5.5;
  metrics.rate = 0.25;
  metrics.gradient_norm = 2;
  metrics.tokens_per_second = 1000;
  metrics.tokens = 64 * step;
  return metrics;
}

std::string line_of(int64_t step) { return metrics_json(metrics_of(step)).dump() + "\n"; }

}  // namespace

TEST_CASE("metrics file: a line has what there is") {
  CHECK(line_of(3) ==
        "{\"step\": 3, \"loss\": 5.5, \"lr\": 0.25, \"grad_norm\": 2.0, \"tokens_per_second\": 1000.0, "
        "\"tokens\": 192, \"epoch\": 0}\n");
  StepMetrics metrics = metrics_of(1);
  metrics.loss = std::numeric_limits<double>::quiet_NaN();
  metrics.skipped = true;
  metrics.loss_scale = 1024;
  metrics.valid_loss = 1.5;
  metrics.valid_bits_per_byte = 2.25;
  metrics.ema_valid_loss = 1.25;
  metrics.sample = "a\nb\xff";
  const std::string line = metrics_json(metrics).dump();
  CHECK(line.find("\"loss\": null") != line.npos);
  CHECK(line.find("\"skipped\": true, \"loss_scale\": 1024.0, \"valid_loss\": 1.5, \"valid_bits_per_byte\": "
                  "2.25, \"ema_valid_loss\": 1.25, \"sample\": \"a\\nb\xef\xbf\xbd\"}") != line.npos);
}

TEST_CASE("metrics file: lines are there at once, and cut back at a resume") {
  const TemporaryDirectory directory;
  const auto path = directory / "metrics.jsonl";
  {
    MetricsFile file(path, 0);
    for (int64_t step = 1; step <= 5; ++step) file.add(metrics_of(step));
    CHECK(read_file(path) == line_of(1) + line_of(2) + line_of(3) + line_of(4) + line_of(5));
  }
  {
    MetricsFile file(path, 3);
    CHECK(read_file(path) == line_of(1) + line_of(2) + line_of(3));
    file.add(metrics_of(4));
  }
  { const MetricsFile opened(path, 9); }
  CHECK(read_file(path) == line_of(1) + line_of(2) + line_of(3) + line_of(4));
  { const MetricsFile opened(path, 0); }
  CHECK(read_file(path).empty());
}

TEST_CASE("metrics file: half a line goes, wherever the run was killed") {
  const TemporaryDirectory directory;
  const std::string whole = line_of(1) + line_of(2);
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto path = directory.write("m", whole.substr(0, size));
    const MetricsFile opened(path, 2);
    CHECK(read_file(path) == (size < line_of(1).size() ? "" : line_of(1)));
  }
  for (const char* other : {"{}\n", "[1]\n", "{\"step\": \"x\"}\n", "\n", "{\"step\": 1e99}\n", "\xff\n"}) {
    const auto path = directory.write("m", line_of(1) + other + line_of(2));
    const MetricsFile opened(path, 2);
    CHECK(read_file(path) == line_of(1));
  }
}

TEST_CASE("metrics file: a full disk is an error, and the lines stay") {
  const TemporaryDirectory directory;
  MetricsFile file(directory / "m", 0);
  file.add(metrics_of(1));
  const test::FileSizeLimit limit(line_of(1).size());
  CHECK(thrown_by([&] { file.add(metrics_of(2)); }).kind == ErrorKind::io);
  CHECK(read_file(directory / "m") == line_of(1));
}

TEST_CASE("metrics file: losses by step") {
  const TemporaryDirectory directory;
  StepMetrics last = metrics_of(3);
  last.loss = std::numeric_limits<double>::infinity();
  last.valid_loss = 4;
  const auto path =
      directory.write("m", line_of(1) + line_of(2) + metrics_json(last).dump() + "\n" + "{\"step\": 4, \"lo");
  const LossHistory history = read_loss_history(path);
  REQUIRE(history.train.size() == 2);
  CHECK(history.train[1].step == 2);
  CHECK(history.train[1].loss == 5.5);
  REQUIRE(history.validation.size() == 1);
  CHECK(history.validation[0].step == 3);
  CHECK(history.validation[0].loss == 4);
  CHECK(thrown_by([&] { read_loss_history(directory / "none"); }).kind == ErrorKind::not_found);
}
