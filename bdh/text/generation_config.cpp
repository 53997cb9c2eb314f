// generation_config.json: keys with their types and ranges, read and written.
#include "bdh/text/generation_config.h"

#include <algorithm>
#include <charconv>
#include <iterator>
#include <limits>
#include <set>
#include <span>

#include "bdh/base/error.h"
#include "bdh/model/horizon.h"
#include "bdh/text/foreign_options.h"
#include "bdh/text/generation_options.h"
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
void read_option(std::vector<int64_t>& tokens, const Json& value) {
  for (const Json& token : value.as_array()) tokens.push_back(token.as_integer());
}
void read_option(std::vector<std::vector<int64_t>>& words, const Json& value) {
  if (value.as_array().empty()) fail(ErrorKind::bad_file, "holds no sequence of tokens; give some, or null");
  for (const Json& word : value.as_array()) read_option(words.emplace_back(), word);
}

template <class Table>
auto named(const Table& table, std::string_view name) {
  return std::find_if(std::begin(table), std::end(table),
                      [&](const auto& candidate) { return candidate.name == name; });
}

/// Reads the option of that name into `options`, unless it is null; false where the table has none.
template <class Table, class Options>
bool read_named(const Table& table, Options& options, const Json::Member& member) {
  const Json& value = member.second;
  const auto option = named(table, member.first);
  if (option == std::end(table)) return false;
  if (!value.is_null()) std::visit([&](auto place) { read_option(options.*place, value); }, option->member);
  return true;
}

bool read_key(GenerationConfig& config, const Json::Member& member) {
  const auto key = named(kKeys, member.first);
  if (key == std::end(kKeys)) return false;
  if (!member.second.is_null()) key->read(config, member.second);
  return true;
}

void read_member(GenerationConfig& config, const Json::Member& member) {
  const bool ours = read_key(config, member) || read_named(sampling_options(), config.sampling, member) ||
                    read_named(generation_options(), config, member);
  if (!ours) config.extra.push_back(member);
}

using Names = std::set<std::string_view>;

/// Of the keys that are not null.
Names given_names(const Json& json) {
  Names names;
  for (const auto& [name, value] : json.as_object())
    if (!value.is_null()) names.insert(name);
  return names;
}

/// Whether the file is one of save_pretrained in Python BDH, or says nothing that transformers would read.
bool without_transformers(Names names) {
  for (const char* own : {"seed", "stop", "horizon"}) names.erase(own);
  return names.empty() || names == Names{"max_new_tokens", "temperature", "top_k"};
}

/// What transformers takes where its file lacks it.
SamplingOptions transformers_defaults() {
  SamplingOptions sampling;
  sampling.do_sample = false;
  sampling.temperature = 1;
  sampling.top_p = 1;
  return sampling;
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
Json option_json(const std::vector<int64_t>& tokens) { return Json::Array(tokens.begin(), tokens.end()); }
Json option_json(const std::vector<std::vector<int64_t>>& words) {
  Json json(Json::Array{});
  for (const std::vector<int64_t>& word : words) json.push(option_json(word));
  return json;
}

template <class Option, class Options>
void add_option(Json& json, const Option& option, const Options& options, bool always) {
  const auto add = [&](auto member) {
    if (always || options.*member != Options().*member) json.set(option.name, option_json(options.*member));
  };
  std::visit(add, option.member);
}

/// Those that are always written, or the others where they are not the default.
void add_sampling(Json& json, const SamplingOptions& sampling, bool always) {
  for (const SamplingOption& option : sampling_options())
    if (option.written == always) add_option(json, option, sampling, always);
}

void check_option(const GenerationOption& option, int64_t value) {
  if (value >= option.low && value <= option.high) return;
  fail(ErrorKind::invalid_argument, option.name, " must be ", option.rule, ", not ", value);
}
void check_option(const GenerationOption&, const std::vector<int64_t>&) {}
void check_option(const GenerationOption& option, const std::vector<std::vector<int64_t>>& words) {
  for (const std::vector<int64_t>& word : words) {
    if (word.empty()) fail(ErrorKind::invalid_argument, option.name, " must not hold an empty sequence");
    for (const int64_t token : word)
      if (token < 0) fail(ErrorKind::invalid_argument, option.name, " must be tokens, not ", token);
  }
}

}  // namespace

void GenerationConfig::validate() const {
  if (max_new_tokens < 0) {
    fail(ErrorKind::invalid_argument, "max_new_tokens must be 0 or a positive number, not ", max_new_tokens);
  }
  sampling.validate();
  for (const GenerationOption& option : generation_options())
    std::visit([&](auto member) { check_option(option, this->*member); }, option.member);
  for (const std::string& string : stop) {
    if (string.empty()) fail(ErrorKind::invalid_argument, "stop strings must not be empty");
    if (valid_utf8(string) != string) fail(ErrorKind::invalid_argument, "stop strings must be valid UTF-8");
  }
}

void GenerationConfig::require_possible(int64_t vocab_size) const {
  refuse_foreign_options(extra);
  if (num_return_sequences > 1 && sampling.greedy()) {
    fail(ErrorKind::invalid_argument, "num_return_sequences ", num_return_sequences,
         ": greedy texts of one prompt are all the same; ask for one, or sample (do_sample)");
  }
  for (const std::vector<int64_t>& word : bad_words_ids) {
    const auto strange =
        std::find_if(word.begin(), word.end(), [&](int64_t token) { return token >= vocab_size; });
    if (strange != word.end()) {
      fail(ErrorKind::invalid_argument, "bad_words_ids: token ", *strange, " is outside the vocabulary [0, ",
           vocab_size, "); remove that sequence");
    }
  }
}

std::vector<std::string> GenerationConfig::useless_options(int64_t vocab_size) const {
  std::vector<std::string> useless;
  const auto look = [&](const char* name, const std::vector<int64_t>& tokens, const char* effect) {
    const auto strange = [&](int64_t token) { return token < 0 || token >= vocab_size; };
    const auto found = std::find_if(tokens.begin(), tokens.end(), strange);
    if (found == tokens.end()) return;
    useless.push_back(concat(name, " ", *found, " ", effect, ": the model's vocab_size is ", vocab_size));
  };
  look("eos_token_id", eos, "ends no text");
  look("suppress_tokens", suppress_tokens, "suppresses nothing");
  look("begin_suppress_tokens", begin_suppress_tokens, "suppresses nothing");
  const std::vector<std::string> ignored = ignored_options(extra);
  useless.insert(useless.end(), ignored.begin(), ignored.end());
  return useless;
}

int64_t GenerationConfig::room_after(int64_t prompt_tokens) const {
  if (max_length == 0) return max_new_tokens;
  if (max_length > prompt_tokens) return max_length - prompt_tokens;
  fail(ErrorKind::invalid_argument, "the prompt has ", prompt_tokens, " tokens, and max_length ", max_length,
       " counts prompt and text together; raise it, or set max_new_tokens");
}

GenerationConfig GenerationConfig::from_json(const Json& json, std::string_view source) {
  if (!json.is_object())
    fail(ErrorKind::bad_file, source, ": expected a JSON object with generation options");
  GenerationConfig config;
  const Names names = given_names(json);
  if (!without_transformers(names)) config.sampling = transformers_defaults();
  for (const Json::Member& member : json.as_object()) {
    try {
      read_member(config, member);
    } catch (const Error& error) {
      fail(ErrorKind::bad_file, source, ": ", member.first, ": ", error.what());
    }
  }
  if (names.contains("max_new_tokens")) config.max_length = 0;
  if (names.contains("min_new_tokens")) config.min_length = 0;
  try {
    config.validate();
  } catch (const Error& error) {
    fail(ErrorKind::bad_file, source, ": ", error.what());
  }
  return config;
}

Json GenerationConfig::to_json() const {
  Json json(Json::Object{});
  if (max_length == 0) json.set("max_new_tokens", max_new_tokens);
  add_sampling(json, sampling, true);
  json.set("do_sample", sampling.do_sample);
  add_sampling(json, sampling, false);
  for (const GenerationOption& option : generation_options()) add_option(json, option, *this, false);
  if (seed_given) json.set("seed", sampling.seed);
  if (!stop.empty()) json.set("stop_strings", Json::Array(stop.begin(), stop.end()));
  if (!eos.empty()) json.set("eos_token_id", eos_json(eos));
  if (!horizon.empty()) json.set("horizon", horizon_to_json(horizon));
  for (const auto& [key, value] : extra) json.set(key, value);
  return json;
}

}  // namespace bdh
