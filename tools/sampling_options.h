// The options of generate and chat that say how text is generated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "bdh/text/generation_config.h"
#include "tools/cli/options.h"

namespace bdh::tools {

/// Of a flag: a number, or token ids, as often as they were given.
using Given = std::variant<std::optional<float>, std::optional<int64_t>, std::vector<std::string>>;

/// One for each of sampling_options(), empty.
std::vector<Given> no_sampling();
/// One for each of generation_options(), empty.
std::vector<Given> no_generation();

/// What was given; the rest comes from the model's generation_config.json.
struct SamplingFlags {
  std::optional<int64_t> max_new_tokens;
  std::vector<Given> sampling = no_sampling();
  std::vector<Given> generation = no_generation();
  std::optional<uint64_t> seed;
  bool greedy = false;
  std::vector<std::string> stop;
  std::string horizon;               // "": not given
  std::vector<std::string> ignored;  // keys of generation_config.json
};

/// --max-new-tokens, a flag for each of sampling_options() and generation_options(), --seed, --greedy,
/// --stop,
/// --horizon, --ignore.
void add_sampling_options(Command& command, SamplingFlags& flags);

/// `defaults` with what was given put in its place, and a random seed where neither has one.
/// Throws Error(invalid_argument) for a value out of range.
GenerationConfig with_flags(GenerationConfig defaults, const SamplingFlags& flags);

}  // namespace bdh::tools
