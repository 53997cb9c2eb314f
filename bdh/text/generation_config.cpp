// generation_config.json: keys with their types and ranges, read and written.
#include "bdh/text/generation_config.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <limits>
#include <span>

#include "bdh/base/error.h"
#include "bdh/model/horizon.h"
#include "bdh/text/utf8.h"
#include "kernels/sampling_options.h"

namespace bdh {
namespace {

float as_float(const Json& value) {
  const double number = value.as_number();
  constexpr double kLargest = std::numeric_limits<float>::max();
  if (!(number >= -kLargest && number <= kLargest)) fail(ErrorKind::bad_file, "the number is too large");
  return static_cast<float>(number);
}

uint64_t as_seed(const Json& value) {
  const std::string text = value.dump();
  uint64_t seed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error != std::errc() || end != text.data() + text.size()) {
    fail(ErrorKind::bad_file, "expected a whole number in [0, 2^64), found ", text.substr(0, 40));
  }
  return seed;
}

void read_seed(GenerationConfig& config, const Json& value) {
  config.sampling.seed = as_seed(value);
  config.seed_given = true;
}

void read_stop(GenerationConfig& config, const Json& value) {
  if (value.is_string()) return config.stop.push_back(value.as_string());
  for (const Json& string : value.as_array()) config.stop.push_back(string.as_string());
}

void read_eos(GenerationConfig& config, const Json& value) {
  if (!value.is_array()) return config.eos.push_back(value.as_integer());
  for (const Json& token : value.as_array()) config.eos.push_back(token.as_integer());
}

Json eos_json(const std::vector<int64_t>& eos) {
  return eos.size() == 1 ? Json(eos[0]) : Json(Json::Array(eos.begin(), eos.end()));
}

struct Key {
  std::string_view name;
  void (*read)(GenerationConfig&, const Json&);
};

constexpr Key kKeys[] = {
    {"max_new_tokens",
     [](GenerationConfig& config, const Json& v) { config.max_new_tokens = v.as_integer(); }},
    {"do_sample", [](GenerationConfig& config, const Json& v) { config.sampling.do_sample = v.as_bool(); }},
    {"seed", read_seed},
    {"stop_strings", read_stop},
    {"stop", read_stop},
    {"eos_token_id", read_eos},
    {"horizon", [](GenerationConfig& config, const Json& v) { config.horizon = horizon_from_json(v); }},
};

void read_option(float& option, const Json& value) { option = as_float(value); }
void read_option(int64_t& option, const Json& value) { option = value.as_integer(); }

template <class Table>
auto named(const Table& table, std::string_view name) {
  return std::find_if(std::begin(table), std::end(table),
                      [&](const auto& candidate) { return candidate.name == name; });
}

void read_member(GenerationConfig& config, const Json::Member& member) {
  const std::string& name = member.first;
  const Json& value = member.second;
  const auto key = named(kKeys, name);
  const std::span<const SamplingOption> options = sampling_options();
  const auto option = named(options, name);
  if (key == std::end(kKeys) && option == options.end()) return config.extra.push_back(member);
  if (value.is_null()) return;
  if (key != std::end(kKeys)) return key->read(config, value);
  std::visit([&](auto place) { read_option(config.sampling.*place, value); }, option->member);
}

/// The double that prints as the float does: 0.8 for 0.8f.
double shortest(float value) {
  char text[32];
  const char* end = std::to_chars(text, text + sizeof text, value).ptr;
  double number = value;
  std::from_chars(text, end, number);
  return number;
}

Json option_json(float option) { return shortest(option); }
Json option_json(int64_t option) { return option; }

/// Warpers always, others where they are not the default.
void add_options(Json& json, const SamplingOptions& sampling, bool warpers) {
  for (const SamplingOption& option : sampling_options()) {
    if (option.warper != warpers) continue;
    const auto add = [&](auto member) {
      if (warpers || sampling.*member != SamplingOptions().*member)
        json.set(option.name, option_json(sampling.*member));
    };
    std::visit(add, option.member);
  }
}

}  // namespace

void GenerationConfig::validate() const {
  if (max_new_tokens < 0) {
    fail(ErrorKind::invalid_argument, "max_new_tokens must be 0 or a positive number, not ", max_new_tokens);
  }
  sampling.validate();
  for (const std::string& string : stop) {
    if (string.empty()) fail(ErrorKind::invalid_argument, "stop strings must not be empty");
    if (valid_utf8(string) != string) fail(ErrorKind::invalid_argument, "stop strings must be valid UTF-8");
  }
}

std::string GenerationConfig::useless_options(int64_t vocab_size) const {
  const auto strange = [&](int64_t token) { return token < 0 || token >= vocab_size; };
  const auto found = std::find_if(eos.begin(), eos.end(), strange);
  if (found == eos.end()) return {};
  return concat("eos_token_id ", *found, " ends no text: the model's vocab_size is ", vocab_size);
}

GenerationConfig GenerationConfig::from_json(const Json& json, std::string_view source) {
  if (!json.is_object())
    fail(ErrorKind::bad_file, source, ": expected a JSON object with generation options");
  GenerationConfig config;
  for (const Json::Member& member : json.as_object()) {
    try {
      read_member(config, member);
    } catch (const Error& error) {
      fail(ErrorKind::bad_file, source, ": ", member.first, ": ", error.what());
    }
  }
  try {
    config.validate();
  } catch (const Error& error) {
    fail(ErrorKind::bad_file, source, ": ", error.what());
  }
  return config;
}

Json GenerationConfig::to_json() const {
  Json json(Json::Object{});
  json.set("max_new_tokens", max_new_tokens);
  add_options(json, sampling, true);
  json.set("do_sample", sampling.do_sample);
  add_options(json, sampling, false);
  if (seed_given) json.set("seed", sampling.seed);
  if (!stop.empty()) json.set("stop_strings", Json::Array(stop.begin(), stop.end()));
  if (!eos.empty()) json.set("eos_token_id", eos_json(eos));
  if (!horizon.empty()) json.set("horizon", horizon_to_json(horizon));
  for (const auto& [key, value] : extra) json.set(key, value);
  return json;
}

}  // namespace bdh
