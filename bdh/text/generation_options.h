// The generation options beside those of sampling, by name: one table, from which generation_config.json and
// the command's flags are made.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "bdh/text/generation_config.h"

namespace bdh {

/// A number or token ids in GenerationConfig.
struct GenerationOption {
  std::string_view name;  // in generation_config.json; the flag of min_length is --min-length
  std::variant<int64_t GenerationConfig::*, std::vector<int64_t> GenerationConfig::*,
               std::vector<std::vector<int64_t>> GenerationConfig::*>
      member;
  int64_t low, high;  // what a number may be,
  const char* rule;   // in words
  const char* help;   // of the flag
};

/// In the order of --help.
std::span<const GenerationOption> generation_options();

}  // namespace bdh
