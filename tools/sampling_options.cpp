// The options of generate and chat that say how text is generated.
#include "tools/sampling_options.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <random>
#include <string>
#include <utility>

#include "bdh/model/horizon.h"
#include "bdh/text/generation_options.h"
#include "kernels/sampling_options.h"
#include "tools/command.h"

namespace bdh::tools {
namespace {

constexpr const char* kGroup = "Sampling (defaults: the model's generation_config.json)";
constexpr int64_t kLargest = std::numeric_limits<int64_t>::max();

template <class T>
void replace(T& value, const std::optional<T>& given) {
  if (given) value = *given;
}

/// The number that all of `text` is.
template <class T>
std::optional<T> parsed(std::string_view text) {
  T number{};
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stopped == end ? std::optional(number) : std::nullopt;
}

/// A number in [low, high], which `range` says in words.
template <class T>
ValueCheck must_be(const std::string& range, T low, T high) {
  return [=](const std::string& text) -> std::string {
    const std::optional<T> number = parsed<T>(text);
    return number && *number >= low && *number <= high ? "" : "must be " + range + ", not " + text;
  };
}

ValueCheck must_be_count() { return must_be("0 or a positive whole number", int64_t{0}, kLargest); }

/// 1,2,3; nothing where it is not that.
std::optional<std::vector<int64_t>> parsed_tokens(std::string_view text) {
  std::vector<int64_t> tokens;
  while (true) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::optional<int64_t> token = parsed<int64_t>(text.substr(0, comma));
    if (!token || *token < 0) return {};
    tokens.push_back(*token);
    if (comma == text.size()) return tokens;
    text.remove_prefix(comma + 1);
  }
}

std::string problem_of_tokens(const std::string& text) {
  return text == "none" || parsed_tokens(text) ? "" : "must be token ids as 1,2,3, or none, not " + text;
}

// ---- flags from the tables ----

ValueCheck check_of(const SamplingOption& option, const std::optional<float>&) {
  return must_be(option.rule, option.low, option.high);
}
ValueCheck check_of(const SamplingOption&, const std::optional<int64_t>&) { return must_be_count(); }
ValueCheck check_of(const GenerationOption& option, const std::optional<int64_t>&) {
  return must_be(option.rule, option.low, option.high);
}
ValueCheck check_of(const auto&, const std::vector<std::string>&) { return problem_of_tokens; }
ValueCheck check_of(const GenerationOption&, const std::optional<float>&) { return must_be_count(); }

/// --top-k for top_k.
std::string flag_of(std::string_view name) {
  std::string flag = "--" + std::string(name);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

template <class Table>
void add_flags(Command& command, const Table& table, std::vector<Given>& flags) {
  for (size_t i = 0; i < flags.size(); ++i) {
    const auto& option = table[i];
    const auto add = [&](auto& given) {
      command.option(flag_of(option.name), &given, option.help).check(check_of(option, given)).group(kGroup);
    };
    std::visit(add, flags[i]);
  }
}

template <class T>
bool given(const std::optional<T>& value) {
  return value.has_value();
}
bool given(const std::vector<std::string>& values) { return !values.empty(); }

void put(float& option, const Given& given) { replace(option, std::get<std::optional<float>>(given)); }
void put(int64_t& option, const Given& given) { replace(option, std::get<std::optional<int64_t>>(given)); }
void put(std::vector<std::vector<int64_t>>& words, const Given& given) {
  words.clear();
  for (const std::string& text : std::get<std::vector<std::string>>(given))
    if (text != "none") words.push_back(parsed_tokens(text).value());
}
void put(std::vector<int64_t>& tokens, const Given& given) {
  std::vector<std::vector<int64_t>> lists;
  put(lists, given);
  tokens.clear();
  for (const std::vector<int64_t>& list : lists) tokens.insert(tokens.end(), list.begin(), list.end());
}

bool was_given(const Given& flag) {
  return std::visit([](const auto& value) { return given(value); }, flag);
}

/// The options whose flags were given; `told` hears of each.
template <class Table, class Options, class Told>
void replace_given(const Table& table, const std::vector<Given>& flags, Options& options, const Told& told) {
  for (size_t i = 0; i < flags.size(); ++i) {
    if (!was_given(flags[i])) continue;
    std::visit([&](auto member) { put(options.*member, flags[i]); }, table[i].member);
    told(table[i]);
  }
}

/// Short enough to be typed again.
uint64_t random_seed() { return std::random_device{}(); }

Given empty_flag(float SamplingOptions::*) { return std::optional<float>(); }
template <class Options>
Given empty_flag(int64_t Options::*) {
  return std::optional<int64_t>();
}
template <class T>
Given empty_flag(std::vector<T> GenerationConfig::*) {
  return std::vector<std::string>();
}

std::vector<Given> empty_flags(const auto& table) {
  std::vector<Given> flags;
  for (const auto& option : table)
    flags.push_back(std::visit([](auto member) { return empty_flag(member); }, option.member));
  return flags;
}

}  // namespace

std::vector<Given> no_sampling() { return empty_flags(sampling_options()); }
std::vector<Given> no_generation() { return empty_flags(generation_options()); }

void add_sampling_options(Command& command, SamplingFlags& flags) {
  const auto seed = must_be("a whole number in [0, 2^64)", uint64_t{0}, std::numeric_limits<uint64_t>::max());
  command.option("-n,--max-new-tokens", &flags.max_new_tokens, "tokens to generate, at most")
      .check(must_be_count())
      .group(kGroup);
  add_flags(command, sampling_options(), flags.sampling);
  add_flags(command, generation_options(), flags.generation);
  command.option("--seed", &flags.seed, "the same seed gives the same text; random by default")
      .check(seed)
      .group(kGroup);
  command.flag("--greedy", &flags.greedy, "always the likeliest token").group(kGroup);
  command.option("--stop", &flags.stop, "end before this string; may be repeated").group(kGroup);
  add_horizon_option(command, flags.horizon, "default: the model's").group(kGroup);
  command
      .option("--ignore", &flags.ignored,
              "go without this key of generation_config.json; may be repeated: --ignore num_beams")
      .group(kGroup);
}

GenerationConfig with_flags(GenerationConfig defaults, const SamplingFlags& flags) {
  GenerationConfig config = std::move(defaults);
  SamplingOptions& sampling = config.sampling;
  replace_given(sampling_options(), flags.sampling, sampling, [&](const SamplingOption& option) {
    if (option.warper) sampling.do_sample = true;
  });
  replace_given(generation_options(), flags.generation, config, [&](const GenerationOption& option) {
    if (option.name == "min_new_tokens") config.min_length = 0;
  });
  if (flags.greedy) sampling.do_sample = false;
  if (flags.max_new_tokens) config.max_length = 0;
  replace(config.max_new_tokens, flags.max_new_tokens);
  if (!config.seed_given) sampling.seed = random_seed();
  replace(sampling.seed, flags.seed);
  config.seed_given = true;
  if (!flags.stop.empty()) config.stop = flags.stop;
  if (!flags.horizon.empty()) config.horizon = parse_horizon(flags.horizon);
  for (const std::string& key : flags.ignored)
    std::erase_if(config.extra, [&](const Json::Member& member) { return member.first == key; });
  config.validate();
  return config;
}

}  // namespace bdh::tools
