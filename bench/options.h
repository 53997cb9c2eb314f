// What a run of the benchmarks is asked for.
#pragma once

#include <filesystem>
#include <functional>
#include <regex>
#include <string>
#include <string_view>

#include "bdh/model/config.h"
#include "bench/case.h"

namespace bdh::bench {

struct Options {
  std::string device = "auto";  // as make_backend takes it
  std::string filter;           // a regular expression over ids; "": everything
  std::string shape;            // "": default, and trained where a model is given
  std::filesystem::path model;  // a trained model's directory
  std::string dtype;            // f32, bf16 or f16; "": those that matter
  int batch = 0;                // sequences decoded together; 0: one and several
  int threads = 0;              // CPU threads; 0: the cores
  bool quick = false;           // the main cases, fewer repetitions
  bool full = false;            // on a CPU: decoding after 100,000 tokens too
  double seconds = 0;  // start nothing more after so long, and wait for no peer; 0: take the time it takes
  std::string python;  // runs the peer; "": no peers
  std::filesystem::path script;     // the peer
  std::filesystem::path scratch{};  // the peer's copy of the model goes there; "": a temporary directory
  std::function<void(const std::string&)> progress{};  // called with each case's id; may throw to stop
};

/// The error of a case that was not started because Options::seconds had passed.
constexpr const char* kTimeOver = "the time given was over";

/// The sizes that "default", "small" or "6x256x4x128" (layers, width, heads, multiplier) stand for. Throws
/// Error(invalid_argument) for anything else, "trained" too.
Config config_of_shape(std::string_view shape);

/// Checks shape, dtype, filter, batch and model. Throws Error(invalid_argument).
void check(const Options& options);

/// Whether cases of new random parameters, and of a trained model, are wanted.
bool wants_random(const Options& options);
bool wants_trained(const Options& options);

/// Which cases are wanted: those whose id matches `filter` and whose dtype is the one asked for.
class Wanted {
 public:
  explicit Wanted(const Options& options);
  bool operator()(const Case& one) const;

 private:
  bool all_;
  std::regex pattern_;
  std::string dtype_;
};

}  // namespace bdh::bench
