// `bdh bench`: kernels and whole paths against the limits of this machine and beside PyTorch.
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bench/bench.h"
#include "bench/chart.h"
#include "tools/command.h"

namespace bdh::tools {
namespace {

struct BenchCommand {
  bench::Options bench;
  std::string json, chart, python, peer = "bench/pytorch.py";
  bool no_peers = false, to_stdout = false;
};

std::string default_python() {
  const char* named = std::getenv("PYTHON");
  return named && *named ? named : "python3";
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

void run(BenchCommand command) {
  make_directory_of(command.json);
  make_directory_of(command.chart);
  command.bench.script = command.peer;
  if (!command.no_peers) command.bench.python = command.python.empty() ? default_python() : command.python;
  bench::Report report;
  {
    Progress progress("measuring", "");
    command.bench.progress = [&](const std::string& what) {
      stop_if_interrupted();
      progress.show(what);
    };
    report = bench::run(command.bench);
  }
  stop_if_interrupted();
  const Json json = bench::json_of(report);
  const bool print_json = command.to_stdout && command.json.empty();
  if (!command.json.empty()) write_file(command.json, json.dump(1) + "\n");
  write_out(print_json ? json.dump(1) + "\n" : bench::table_of(report));
  if (!command.chart.empty()) bench::write_charts(json, command.chart);
}

void add_what(CLI::App& command, bench::Options& options) {
  command.add_option("--kernel", options.filter,
                     "only kernels, paths and peers whose name matches this regular expression");
  command.add_option("--shape", options.shape,
                     "default, small, trained, or layers x width x heads x multiplier as 6x256x4x128");
  command.add_option("--model", options.model, "a trained model's directory, measured as well");
  command.add_option("--dtype", options.dtype, "f32, bf16 or f16; by default those that matter")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  command.add_option("--batch", options.batch, "sequences decoded together; by default one and several")
      ->check(CLI::Range(1, 65535));
  command.add_flag("--quick", options.quick, "the main cases, fewer repetitions");
  command.add_flag("--full", options.full, "on a CPU, decoding after 100,000 tokens too (minutes more)");
  command.add_option("--seconds", options.seconds, "start nothing more after so many seconds")
      ->check(CLI::PositiveNumber);
}

void add_where(CLI::App& command, BenchCommand& options) {
  command
      .add_option_function<std::string>(
          "--json", [&options](const std::string& file) { options.json = file; },
          "write every figure as JSON to FILE, or to standard output in the tables' place")
      ->expected(0, 1)
      ->type_name("[FILE]")
      ->trigger_on_parse();
  command.add_option("--chart", options.chart,
                     "draw bars and a roofline: a directory, or a name ending in .svg");
  command.add_flag("--no-peers", options.no_peers, "leave PyTorch out");
  command.add_option("--python", options.python, "Python with PyTorch; by default $PYTHON, or python3");
  command.add_option("--peer", options.peer, "the peer's script; by default bench/pytorch.py");
  command.add_option("--scratch", options.bench.scratch,
                     "where the peer's copy of the model is kept; by default nowhere");
}

}  // namespace

void add_bench(CLI::App& app) {
  const auto options = std::make_shared<BenchCommand>();
  CLI::App* command = app.add_subcommand("bench", "Measure kernels and paths against this machine's limits");
  command->add_option("--threads", options->bench.threads, "CPU threads; 0, the default, takes every core")
      ->check(CLI::Range(0, 1024));
  command->add_option("--device", options->bench.device, "auto, cpu, cuda or cuda:N; auto is the default");
  add_what(*command, options->bench);
  add_where(*command, *options);
  command->footer(
      "Example: bdh bench --device cuda --kernel 'attention|decode' --json results.json --chart charts");
  command->callback([options, command] {
    options->to_stdout = command->count("--json") > 0;
    run(*options);
  });
}

}  // namespace bdh::tools
