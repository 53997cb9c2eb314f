// A case: something that is timed, its name and the work it cannot do without; and what came of it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bdh/base/json.h"

namespace bdh::bench {

enum class Kind : uint8_t { limit, kernel, path, peer };

/// The least that one iteration must do.
struct Work {
  double bytes = 0;    // moved from or to memory, each once
  double written = 0;  // of these: those that a CPU writes while it reads the others
  double cached = 0;   // bytes that a cache holds, however little else fits: a GPU's weights
  double flops = 0;    // a multiplication and an addition are two
  double zeros = 0;    // of these, those of products whose zeros may be skipped: counted, not always done
  double working_set =
      0;              // bytes that come round again: they decide which cache's bandwidth is a CPU's limit
  double tokens = 0;  // read, by paths and peers
};

struct Case {
  Kind kind = Kind::kernel;
  std::string name{}, shape{}, dtype{};
  std::string variant{};             // of a kernel: an instruction set, or what does the same ("cuBLAS")
  int threads = 0;                   // 0: not a matter of threads
  std::vector<std::string> peers{};  // names of what does a path's job elsewhere

  /// "decode_at_512/default/f32/2_threads"
  std::string id() const;
};

/// A case's samples, one for each repetition, in seconds an iteration.
struct Result {
  Case of;
  Work work;
  std::vector<double> samples;
  std::string error;     // why there are none
  Json::Object details;  // kept with the figures: "memory_before", "differs"

  double median() const;
  /// The shortest sample.
  double best() const;
  /// Standard deviation over mean.
  double spread() const;
};

/// The least time some work can take, and why.
struct Bound {
  double seconds = 0;  // 0: unknown
  std::string by;      // "memory", "L3", "product bf16"
  double usual = 0;    // the same by what the machine gave in the midst of its repetitions; 0: unknown
};

/// What a machine was seen to do at best: a roof that no work passes.
struct Roof {
  std::string name;  // as in Bound::by
  bool flops;        // of flops; else of bytes
  double rate;       // a second
};

}  // namespace bdh::bench
