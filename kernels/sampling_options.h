// The sampling options by name: one table, from which generation_config.json and the command's flags are
// made.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <variant>

#include "kernels/sampler.h"

namespace bdh {

/// A number in SamplingOptions.
struct SamplingOption {
  std::string_view name;  // in generation_config.json; the flag of top_k is --top-k
  std::variant<float SamplingOptions::*, int64_t SamplingOptions::*> member;
  double low, high;  // what it may be,
  const char* rule;  // in words
  const char* help;  // of the flag
  bool warper;       // has no effect on greedy text: a flag that gives it asks for sampling
  bool written;      // to generation_config.json always, others where they are not the default
};

/// In the order of --help.
std::span<const SamplingOption> sampling_options();

}  // namespace bdh
