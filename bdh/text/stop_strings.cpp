// Stop strings found by looking at what is held back, which is never longer than the longest of them and one
// piece.
#include "bdh/text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace bdh {

std::string StopStrings::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  const size_t match = first_match();
  stopped_ = match != std::string::npos;
  const size_t end = stopped_ ? match : certain();
  std::string passed = held_.substr(0, end);
  held_.erase(0, stopped_ ? held_.size() : end);
  return passed;
}

std::string StopStrings::finish() { return std::exchange(held_, {}); }

/// Where the stop string begins that is complete first, or npos.
size_t StopStrings::first_match() const {
  size_t begin = std::string::npos;
  size_t end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos || at + stop.size() > end) continue;
    begin = at + stop.size() < end ? at : std::min(begin, at);
    end = at + stop.size();
  }
  return begin;
}

/// How much of what is held can belong to no stop string: all but the longest end that begins one.
size_t StopStrings::certain() const {
  size_t end = held_.size();
  for (const std::string& stop : stops_) {
    size_t begin = held_.size() - std::min(held_.size(), stop.size() - 1);
    while (begin < end && stop.compare(0, held_.size() - begin, held_, begin) != 0) ++begin;
    end = std::min(end, begin);
  }
  return end;
}

}  // namespace bdh
