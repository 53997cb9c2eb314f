// `bdh-bench`: kernels and whole paths against the limits of this machine and beside PyTorch.
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/version.h"
#include "bench/bench.h"
#include "bench/chart.h"
#include "tools/cli/interrupt.h"
#include "tools/cli/options.h"
#include "tools/cli/output.h"
#include "tools/cli/program.h"
#include "tools/cli/progress.h"

namespace bdh::bench {
namespace {

constexpr size_t kMaxJsonBytes = 100'000'000;

struct Arguments {
  Options run;
  std::string model, scratch, chart, from, python, peer = "bench/pytorch.py";
  std::optional<std::string> json;  // "": to stdout
  bool no_peers = false;
};

std::string default_python() {
  const char* named = std::getenv("PYTHON");
  return named && *named ? named : "python3";
}

Options options_of(const Arguments& arguments) {
  Options options = arguments.run;
  options.model = arguments.model;
  options.scratch = arguments.scratch;
  options.script = arguments.peer;
  if (!arguments.no_peers) options.python = arguments.python.empty() ? default_python() : arguments.python;
  return options;
}

void write_file(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

// Before minutes are spent on what is to be written there.
void make_directory_of(const std::string& file) {
  const std::filesystem::path directory = std::filesystem::path(file).parent_path();
  if (!directory.empty()) std::filesystem::create_directories(directory);
}

Report measure(Options options) {
  tools::Progress progress("measuring", "");
  options.progress = [&](const std::string& what) {
    tools::stop_if_interrupted();
    progress.show(what);
  };
  Report report = run(options);
  tools::stop_if_interrupted();
  return report;
}

void measure_and_write(const Arguments& arguments) {
  const std::string json_file = arguments.json.value_or("");
  make_directory_of(json_file);
  make_directory_of(arguments.chart);
  const Report report = measure(options_of(arguments));
  const Json json = json_of(report);
  if (!json_file.empty()) write_file(json_file, json.dump(1) + "\n");
  tools::write_out(arguments.json && json_file.empty() ? json.dump(1) + "\n" : table_of(report));
  if (!arguments.chart.empty()) write_charts(json, arguments.chart);
  require_possible(report);
}

void draw(const Arguments& arguments) {
  if (arguments.chart.empty()) throw tools::UsageError("from: --from FILE needs --chart, where to draw it");
  write_charts(Json::parse(read_text(arguments.from, kMaxJsonBytes), arguments.from), arguments.chart);
}

void add_what(tools::Command& command, Options& options, std::string& model) {
  command.option("--threads", &options.threads, "CPU threads; 0, the default, takes every core")
      .range(0, 1024);
  command.option("--device", &options.device, "auto, cpu, cuda or cuda:N; auto is the default");
  command.option("--kernel", &options.filter,
                 "only kernels, paths and peers whose name matches this regular expression");
  command.option("--shape", &options.shape,
                 "default, small, trained, or layers x width x heads x multiplier as 6x256x4x128");
  command.option("--model", &model, "a trained model's directory, measured as well");
  command.option("--dtype", &options.dtype, "f32, bf16, f16, int8 or int4; by default those that matter")
      .choices({"f32", "bf16", "f16", "int8", "int4"});
  command.option("--batch", &options.batch, "sequences decoded together; by default one and several")
      .range(1, 65535);
  command.flag("--quick", &options.quick, "the main cases, fewer repetitions");
  command.flag("--full", &options.full, "on a CPU, decoding after 100,000 tokens too (minutes more)");
  command.option("--seconds", &options.seconds, "start nothing more after so many seconds").positive();
}

void add_where(tools::Command& command, Arguments& arguments) {
  command
      .option("--json", &arguments.json,
              "write every figure as JSON to FILE, or to standard output in the tables' place")
      .value_optional("[FILE]");
  command.option("--chart", &arguments.chart,
                 "draw bars, a roofline and the headline: a directory, or a name ending in .svg");
  command.option("--from", &arguments.from, "measure nothing: draw the charts of an earlier run's JSON");
  command.flag("--no-peers", &arguments.no_peers, "leave PyTorch out");
  command.option("--python", &arguments.python, "Python with PyTorch; by default $PYTHON, or python3");
  command.option("--peer", &arguments.peer, "the peer's script; by default bench/pytorch.py");
  command.option("--scratch", &arguments.scratch,
                 "where the peer's copy of the model is kept; by default nowhere");
}

void parse_and_run(int argc, char** argv) {
  Arguments arguments;
  tools::Program program("bdh-bench", "Measures kernels and paths against this machine's limits.",
                         concat("bdh-bench ", kVersion));
  add_what(program, arguments.run, arguments.model);
  add_where(program, arguments);
  program.footer(
      "Example: bdh-bench --device cuda --kernel 'attention|decode' --json results.json --chart charts");
  program.run([&] {
    if (arguments.from.empty()) {
      measure_and_write(arguments);
    } else {
      draw(arguments);
    }
  });
  program.parse_and_run(argc, argv);
}

}  // namespace
}  // namespace bdh::bench

int main(int argc, char** argv) {
  return bdh::tools::run_program("bdh-bench", [&] { bdh::bench::parse_and_run(argc, argv); });
}
