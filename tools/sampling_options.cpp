// The options of generate and chat that say how text is generated.
#include "tools/sampling_options.h"

#include <charconv>
#include <limits>
#include <random>
#include <string>
#include <utility>

namespace bdh::tools {
namespace {

constexpr double kSmallest = std::numeric_limits<float>::min();
constexpr double kLargest = std::numeric_limits<float>::max();

template <class T>
void replace(T& value, const std::optional<T>& given) {
  if (given) value = *given;
}

/// A number in [low, high], which `range` says in words.
template <class T>
ValueCheck must_be(const std::string& range, T low, T high) {
  return [=](const std::string& text) -> std::string {
    const char* end = text.data() + text.size();
    T number{};
    const auto [stopped, error] = std::from_chars(text.data(), end, number);
    const bool good = error == std::errc() && stopped == end && number >= low && number <= high;
    return good ? "" : "must be " + range + ", not " + text;
  };
}

/// Short enough to be typed again.
uint64_t random_seed() { return std::random_device{}(); }

}  // namespace

void add_sampling_options(Command& command, SamplingFlags& flags) {
  const auto count = must_be("0 or a positive whole number", int64_t{0}, std::numeric_limits<int64_t>::max());
  const auto seed = must_be("a whole number in [0, 2^64)", uint64_t{0}, std::numeric_limits<uint64_t>::max());
  const std::string group = "Sampling (defaults: the model's generation_config.json)";
  command.option("-n,--max-new-tokens", &flags.max_new_tokens, "tokens to generate, at most")
      .check(count)
      .group(group);
  command.option("--temperature", &flags.temperature, "above 1 more surprising, below 1 less; 0 is greedy")
      .check(must_be("0 (greedy) or a positive number", 0.0, kLargest))
      .group(group);
  command.option("--top-k", &flags.top_k, "choose among the K likeliest tokens; 0: among all")
      .check(count)
      .group(group);
  command.option("--top-p", &flags.top_p, "choose among the likeliest that together have this probability")
      .check(must_be("in [0, 1]", 0.0, 1.0))
      .group(group);
  command.option("--repetition-penalty", &flags.repetition_penalty, "above 1: avoid tokens that were there")
      .check(must_be("a positive number", kSmallest, kLargest))
      .group(group);
  command.option("--seed", &flags.seed, "the same seed gives the same text; random by default")
      .check(seed)
      .group(group);
  command.flag("--greedy", &flags.greedy, "always the likeliest token").group(group);
  command.option("--stop", &flags.stop, "end before this string; may be repeated").group(group);
}

GenerationConfig with_flags(GenerationConfig defaults, const SamplingFlags& flags) {
  GenerationConfig config = std::move(defaults);
  SamplingOptions& sampling = config.sampling;
  if (flags.temperature || flags.top_k || flags.top_p) sampling.do_sample = true;
  if (flags.greedy) sampling.do_sample = false;
  replace(config.max_new_tokens, flags.max_new_tokens);
  replace(sampling.temperature, flags.temperature);
  replace(sampling.top_k, flags.top_k);
  replace(sampling.top_p, flags.top_p);
  replace(sampling.repetition_penalty, flags.repetition_penalty);
  if (!config.seed_given) sampling.seed = random_seed();
  replace(sampling.seed, flags.seed);
  config.seed_given = true;
  if (!flags.stop.empty()) config.stop = flags.stop;
  config.validate();
  return config;
}

}  // namespace bdh::tools
