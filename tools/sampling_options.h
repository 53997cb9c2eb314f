// The options of generate and chat that say how text is generated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bdh/text/generation_config.h"
#include "tools/cli/options.h"

namespace bdh::tools {

/// What was given; the rest comes from the model's generation_config.json.
struct SamplingFlags {
  std::optional<int64_t> max_new_tokens, top_k;
  std::optional<float> temperature, top_p, repetition_penalty;
  std::optional<uint64_t> seed;
  bool greedy = false;
  std::vector<std::string> stop;
};

/// --max-new-tokens, --temperature, --top-k, --top-p, --repetition-penalty, --seed, --greedy, --stop.
void add_sampling_options(Command& command, SamplingFlags& flags);

/// `defaults` with what was given put in its place, and a random seed where neither has one.
/// Throws Error(invalid_argument) for a value out of range.
GenerationConfig with_flags(GenerationConfig defaults, const SamplingFlags& flags);

}  // namespace bdh::tools
