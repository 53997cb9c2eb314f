// Prometheus' text format, version 0.0.4.
#include "tools/serve/metrics.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "bdh/base/json.h"

namespace bdh::tools {
namespace {

std::string number(double value) { return Json(value).dump(); }

}  // namespace

void Histogram::add(double seconds) {
  const auto bucket = std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin();
  const std::lock_guard lock(mutex_);
  ++counts_[static_cast<size_t>(bucket)];
  sum_ += seconds;
}

std::string Histogram::text(std::string_view name, std::string_view help) const {
  std::string text = metric_head(name, "histogram", help);
  const std::lock_guard lock(mutex_);
  uint64_t count = 0;
  for (size_t i = 0; i < kBounds.size(); ++i) {
    count += counts_[i];
    text += concat(name, "_bucket{le=\"", number(kBounds[i]), "\"} ", count, "\n");
  }
  count += counts_.back();
  return text + concat(name, "_bucket{le=\"+Inf\"} ", count, "\n", name, "_sum ", number(sum_), "\n", name,
                       "_count ", count, "\n");
}

void Metrics::count(std::string_view route, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{std::string(route), status}];
}

std::string Metrics::text() const {
  std::string text = metric_head("bdh_requests_total", "counter", "Requests answered, by route and status.");
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [key, count] : requests_) {
      text += sample("bdh_requests_total",
                     label("route", key.first) + "," + label("status", std::to_string(key.second)),
                     static_cast<double>(count));
    }
  }
  return text +
         metric("bdh_prompt_tokens_total", "counter", "Tokens of prompts of texts that ended.",
                static_cast<double>(prompt_tokens)) +
         metric("bdh_text_tokens_total", "counter", "Tokens of texts that ended.",
                static_cast<double>(text_tokens)) +
         metric("bdh_turned_away_total", "counter", "Requests answered 429 because the queue was full.",
                static_cast<double>(turned_away)) +
         request.text("bdh_request_seconds", "From a request's body to the end of its reply.") +
         first_token.text("bdh_first_token_seconds", "From a request to the first token of a text.") +
         between_tokens.text("bdh_between_tokens_seconds", "Between two tokens of a text.");
}

std::string metric_head(std::string_view name, std::string_view kind, std::string_view help) {
  return concat("# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n");
}

std::string metric(std::string_view name, std::string_view kind, std::string_view help, double value) {
  return metric_head(name, kind, help) + concat(name, " ", number(value), "\n");
}

std::string sample(std::string_view name, std::string_view labels, double value) {
  return concat(name, "{", labels, "} ", number(value), "\n");
}

std::string label(std::string_view name, std::string_view value) {
  std::string text = concat(name, "=\"");
  for (const char letter : value) {
    if (letter == '\n') {
      text += "\\n";
      continue;
    }
    if (letter == '"' || letter == '\\') text += '\\';
    text += letter;
  }
  return text + "\"";
}

}  // namespace bdh::tools
