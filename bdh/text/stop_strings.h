// Stop strings: found in text that arrives in pieces.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bdh {

/// Lets text through until one of the stop strings is complete; holds back what may be the beginning of one.
/// Where several are, the one complete first counts, and of those the longest: how the text is cut into
/// pieces makes no difference.
class StopStrings {
 public:
  /// `stops` must not hold an empty string.
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  /// Appends text; returns what is certain to stand before any stop string. Nothing more comes once
  /// stopped().
  std::string push(std::string_view text);
  /// What was held back, when no more text comes.
  std::string finish();
  bool stopped() const { return stopped_; }

 private:
  size_t first_match() const;
  size_t certain() const;

  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace bdh
