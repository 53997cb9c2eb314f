// bdh_bench: measures limits, kernels, paths and peers in one run; prints tables, writes results.json and
// chart.svg. Knows the parts of bench; how anything is measured stands in them.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <iostream>
#include <regex>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/formats/safetensors.h"
#include "bench/chart.h"
#include "bench/kernels.h"
#include "bench/limits.h"
#include "bench/paths.h"
#include "bench/peers.h"
#include "bench/report.h"

namespace bdh::bench {

namespace {

namespace fs = std::filesystem;

constexpr const char* kUsage =
    "usage: bdh_bench [--out DIRECTORY] [--keep DIRECTORY] [--model DIRECTORY] [--python PYTHON --peer "
    "SCRIPT]\n"
    "                 [--filter REGEX] [--quick] [--full]\n"
    "  --out      where results.json and chart.svg are written (bench-results)\n"
    "  --keep     a directory for a copy of results.json, named after the date and the processor\n"
    "  --model    a trained model directory to measure as well\n"
    "  --python, --peer   run SCRIPT with PYTHON as the peer\n"
    "  --filter   only kernels, paths and peers whose name has a match; limits are always measured\n"
    "  --quick    the main cases, three times each instead of five\n"
    "  --full     decoding after 100,000 tokens as well (minutes more)\n";

struct Options {
  fs::path out = "bench-results", keep, model;
  std::string python, peer, filter;
  bool quick = false, full = false, help = false;
};

Options parse(const std::vector<std::string>& words) {
  Options options;
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const auto value = [&]() -> const std::string& {
      if (++i == words.size()) fail(ErrorKind::invalid_argument, word, " needs a value\n", kUsage);
      return words[i];
    };
    if (word == "--out")
      options.out = value();
    else if (word == "--keep")
      options.keep = value();
    else if (word == "--model")
      options.model = value();
    else if (word == "--python")
      options.python = value();
    else if (word == "--peer")
      options.peer = value();
    else if (word == "--filter")
      options.filter = value();
    else if (word == "--quick")
      options.quick = true;
    else if (word == "--full")
      options.full = true;
    else if (word == "--help")
      options.help = true;
    else
      fail(ErrorKind::invalid_argument, "unknown option ", word, "\n", kUsage);
  }
  return options;
}

std::string now(const char* pattern) {
  const std::time_t time = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&time, &parts);
  char text[64];
  std::strftime(text, sizeof text, pattern, &parts);
  return text;
}

void write(const fs::path& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

/// The model and text that the peer reads: a model directory and tokens.json.
void write_for_peer(const fs::path& directory, const Source& source) {
  fs::create_directories(directory);
  write(directory / "config.json", source.config.to_json().dump(2));
  write_safetensors(directory / "model.safetensors", source.state_dict, {});
  Json::Array tokens;
  for (const int32_t token : source.text) tokens.emplace_back(token);
  write(directory / "tokens.json", Json(std::move(tokens)).dump());
}

// ---- the peer's answers against ours ----

std::vector<float> parse_floats(const std::string& text) {
  std::vector<float> values;
  const char* at = text.c_str();
  for (char* end = nullptr;; at = end) {
    const float value = std::strtof(at, &end);
    if (end == at) return values;
    values.push_back(value);
  }
}

/// Largest difference over largest logit.
double difference(const std::vector<float>& ours, const std::vector<float>& theirs) {
  if (ours.size() != theirs.size()) return INFINITY;
  float largest = 0, apart = 0;
  for (size_t i = 0; i < ours.size(); ++i) {
    largest = std::max(largest, std::abs(theirs[i]));
    apart = std::max(apart, std::abs(ours[i] - theirs[i]));
  }
  return apart / largest;
}

std::string agreement(Peer& peer, const std::shared_ptr<const Source>& source) {
  Subject subject(source, DType::f32, 0);
  constexpr int64_t kTokens = 64;
  Session session(subject.weights());
  const std::vector<float> ours = session.read(subject.tokens(0, kTokens));
  char text[160];
  std::snprintf(text, sizeof text,
                "The peer computes the same: logits after %d tokens differ by %.1e of the largest (cached "
                "decode: %.1e).",
                static_cast<int>(kTokens),
                difference(ours, parse_floats(peer.ask(concat("logits ", kTokens)))),
                difference(ours, parse_floats(peer.ask(concat("cached_logits ", kTokens)))));
  return text;
}

// ---- a run ----

/// The peer, or nothing and the reason in *why.
std::shared_ptr<Peer> start_peer(const Options& options, const Machine& machine, const Source& source,
                                 std::string* why) {
  *why = "none: no Python was given";
  if (options.python.empty()) return nullptr;
  const fs::path directory = options.out / "model";
  write_for_peer(directory, source);
  try {
    auto peer = std::make_shared<Peer>(std::vector<std::string>{
        options.python, options.peer, directory.string(), "--threads", std::to_string(machine.cores)});
    *why = peer->greeting();
    return peer;
  } catch (const Error& error) {
    *why = concat("none: ", error.what());
    return nullptr;
  }
}

/// The cases whose ids match, and the peers of those paths.
std::vector<Case> filtered(const std::vector<Case>& cases, const std::string& filter) {
  if (filter.empty()) return cases;
  const std::regex pattern(filter);
  std::vector<std::string> peers;
  const auto matches = [&](const Case& c) { return std::regex_search(c.id(), pattern); };
  for (const Case& c : cases) {
    if (matches(c)) peers.insert(peers.end(), c.peers.begin(), c.peers.end());
  }
  std::vector<Case> kept;
  std::copy_if(cases.begin(), cases.end(), std::back_inserter(kept), [&](const Case& c) {
    return c.kind == Kind::limit || matches(c) ||
           std::find(peers.begin(), peers.end(), c.name) != peers.end();
  });
  return kept;
}

std::vector<Case> all_cases(const Options& options, const Machine& machine,
                            const std::shared_ptr<const Source>& random, const std::shared_ptr<Peer>& peer) {
  const std::shared_ptr<const Source> trained =
      options.model.empty() ? nullptr : trained_source(options.model);
  std::vector<Case> cases = limit_cases(machine);
  const auto add = [&](const std::vector<Case>& more) {
    cases.insert(cases.end(), more.begin(), more.end());
  };
  add(kernel_cases(machine, options.quick));
  add(path_cases(machine, random, trained, {options.quick, options.full}));
  if (peer) add(peer_cases(peer, machine.cores));
  return filtered(cases, options.filter);
}

// A line that says what runs, when somebody watches.
void show_progress(const Case& c) {
  if (isatty(STDERR_FILENO) == 1) std::fprintf(stderr, "\r\033[K%s\r", c.id().c_str());
}

std::vector<std::string> notes_of(const Machine& machine, const std::vector<std::string>& more) {
  std::vector<std::string> notes = more;
  if (machine.load > 0.3 * machine.cores) {
    notes.emplace_back("The machine was busy when this started: these numbers are not fit to be quoted.");
  }
  return notes;
}

fs::path kept_name(const Machine& machine) {
  std::string name = concat(now("%Y-%m-%d"), "-", machine.processor, "-", machine.cores, "-cores.json");
  for (char& c : name) {
    if (std::strchr(" ()@/", c)) c = '-';
  }
  return name;
}

void run(const Options& options) {
  fs::create_directories(options.out);
  const Machine machine = this_machine();
  const std::shared_ptr<const Source> random = random_source();
  Report report{machine, now("%Y-%m-%d %H:%M UTC"), openblas_description(), "", {}, {}};
  const std::shared_ptr<Peer> peer = start_peer(options, machine, *random, &report.peer);
  std::vector<std::string> notes;
  if (peer) notes.push_back(agreement(*peer, random));
  report.notes = notes_of(machine, notes);
  const std::vector<Case> cases = all_cases(options, machine, random, peer);
  const std::vector<Result> results =
      run_cases(cases, {.repetitions = options.quick ? 3 : 5, .progress = show_progress});
  report.rows = rows_of(results, Limits(machine, results));
  std::cout << table_of(report);
  const std::string json = json_of(report).dump(1);
  write(options.out / "results.json", json);
  write(options.out / "chart.svg", chart_of(report));
  std::cout << "\nwritten: " << (options.out / "results.json").string() << ", "
            << (options.out / "chart.svg").string() << "\n";
  if (options.keep.empty()) return;
  fs::create_directories(options.keep);
  write(options.keep / kept_name(machine), json);
  std::cout << "kept: " << (options.keep / kept_name(machine)).string() << "\n";
}

}  // namespace

}  // namespace bdh::bench

int main(int argc, char** argv) {
  try {
    const bdh::bench::Options options = bdh::bench::parse({argv + 1, argv + argc});
    if (options.help) {
      std::cout << bdh::bench::kUsage;
      return 0;
    }
    bdh::bench::run(options);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "bdh_bench: " << error.what() << "\n";
    return 1;
  }
}
