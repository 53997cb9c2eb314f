// A horizon as files and people write it.
#include "bdh/model/horizon.h"

#include <charconv>
#include <cmath>
#include <limits>

#include "bdh/base/error.h"

namespace bdh {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::string_view kInf = "inf";
constexpr const char* kRule =
    "a horizon is a positive number of tokens, or inf, for all heads or one for each; not ";

float tokens_from_json(const Json& json) {
  if (json.is_string() && json.as_string() == kInf) return kInfinity;
  const double number = json.is_number() ? json.as_number() : 0;
  if (!(number > 0 && number <= std::numeric_limits<float>::max() && static_cast<float>(number) > 0))
    fail(ErrorKind::bad_file, kRule, json.dump().substr(0, 40));
  return static_cast<float>(number);
}

std::string number_text(float number) {
  char text[32];
  const char* end = std::to_chars(text, text + sizeof text, number).ptr;
  return std::string(text, static_cast<size_t>(end - text));
}

Json tokens_to_json(float tokens) {
  if (std::isinf(tokens)) return kInf;
  return Json::parse(number_text(tokens), "horizon");
}

float parse_tokens(std::string_view text) {
  if (text == kInf) return kInfinity;
  float tokens = 0;
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, tokens);
  const bool good = error == std::errc() && stopped == end && tokens > 0 && std::isfinite(tokens);
  if (!good) fail(ErrorKind::invalid_argument, kRule, "'", text.substr(0, 40), "'");
  return tokens;
}

}  // namespace

std::vector<float> horizon_from_json(const Json& json) {
  if (json.is_null()) return {};
  if (!json.is_array()) return {tokens_from_json(json)};
  std::vector<float> horizon;
  for (const Json& tokens : json.as_array()) horizon.push_back(tokens_from_json(tokens));
  if (horizon.empty()) fail(ErrorKind::bad_file, kRule, "an empty list");
  return horizon;
}

Json horizon_to_json(const std::vector<float>& horizon) {
  if (horizon.empty()) return {};
  if (horizon.size() == 1) return tokens_to_json(horizon.front());
  Json list(Json::Array{});
  for (const float tokens : horizon) list.push(tokens_to_json(tokens));
  return list;
}

std::vector<float> parse_horizon(std::string_view text) {
  std::vector<float> horizon;
  if (text == "none") return horizon;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    horizon.push_back(parse_tokens(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return horizon;
}

std::string horizon_text(const std::vector<float>& horizon) {
  std::string text;
  for (const float tokens : horizon) text.append(text.empty() ? "" : ",").append(number_text(tokens));
  return horizon.empty() ? "none" : text;
}

}  // namespace bdh
