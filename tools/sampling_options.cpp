// The options of generate and chat that say how text is generated.
#include "tools/sampling_options.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <random>
#include <string>
#include <utility>

#include "bdh/model/horizon.h"
#include "kernels/sampling_options.h"
#include "tools/command.h"

namespace bdh::tools {
namespace {

constexpr const char* kGroup = "Sampling (defaults: the model's generation_config.json)";

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

ValueCheck must_be_count() {
  return must_be("0 or a positive whole number", int64_t{0}, std::numeric_limits<int64_t>::max());
}

ValueCheck check_of(const SamplingOption& option, const std::optional<float>&) {
  return must_be(option.rule, option.low, option.high);
}
ValueCheck check_of(const SamplingOption&, const std::optional<int64_t>&) { return must_be_count(); }

/// --top-k for top_k.
std::string flag_of(const SamplingOption& option) {
  std::string flag = "--" + std::string(option.name);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

void add_numbers(Command& command, std::vector<GivenNumber>& numbers) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    const SamplingOption& option = sampling_options()[i];
    const auto add = [&](auto& given) {
      command.option(flag_of(option), &given, option.help).check(check_of(option, given)).group(kGroup);
    };
    std::visit(add, numbers[i]);
  }
}

void replace_numbers(SamplingOptions& sampling, const std::vector<GivenNumber>& numbers) {
  for (size_t i = 0; i < numbers.size(); ++i) {
    const SamplingOption& option = sampling_options()[i];
    const auto replace_given = [&]<class T>(T SamplingOptions::*member) {
      const auto& given = std::get<std::optional<T>>(numbers[i]);
      if (given && option.warper) sampling.do_sample = true;
      replace(sampling.*member, given);
    };
    std::visit(replace_given, option.member);
  }
}

/// Short enough to be typed again.
uint64_t random_seed() { return std::random_device{}(); }

}  // namespace

std::vector<GivenNumber> no_numbers() {
  const auto none = []<class T>(T SamplingOptions::*) -> GivenNumber { return std::optional<T>(); };
  std::vector<GivenNumber> numbers;
  for (const SamplingOption& option : sampling_options()) numbers.push_back(std::visit(none, option.member));
  return numbers;
}

void add_sampling_options(Command& command, SamplingFlags& flags) {
  const auto seed = must_be("a whole number in [0, 2^64)", uint64_t{0}, std::numeric_limits<uint64_t>::max());
  command.option("-n,--max-new-tokens", &flags.max_new_tokens, "tokens to generate, at most")
      .check(must_be_count())
      .group(kGroup);
  add_numbers(command, flags.numbers);
  command.option("--seed", &flags.seed, "the same seed gives the same text; random by default")
      .check(seed)
      .group(kGroup);
  command.flag("--greedy", &flags.greedy, "always the likeliest token").group(kGroup);
  command.option("--stop", &flags.stop, "end before this string; may be repeated").group(kGroup);
  add_horizon_option(command, flags.horizon, "default: the model's").group(kGroup);
}

GenerationConfig with_flags(GenerationConfig defaults, const SamplingFlags& flags) {
  GenerationConfig config = std::move(defaults);
  SamplingOptions& sampling = config.sampling;
  replace_numbers(sampling, flags.numbers);
  if (flags.greedy) sampling.do_sample = false;
  replace(config.max_new_tokens, flags.max_new_tokens);
  if (!config.seed_given) sampling.seed = random_seed();
  replace(sampling.seed, flags.seed);
  config.seed_given = true;
  if (!flags.stop.empty()) config.stop = flags.stop;
  if (!flags.horizon.empty()) config.horizon = parse_horizon(flags.horizon);
  config.validate();
  return config;
}

}  // namespace bdh::tools
