// What Split and Replace look for: a text or a regular expression.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/text/tokenizers/fields.h"
#include "bdh/text/tokenizers/regex.h"

namespace bdh::tokenizers {

class Pattern {
 public:
  /// The member "pattern": {"String": ...} or {"Regex": ...}. Throws Error(bad_file), Error(unsupported).
  explicit Pattern(const Fields& fields);

  void find_all(std::string_view text, std::vector<Match>& matches) const;

 private:
  std::string literal_;
  std::optional<Regex> regex_;
};

/// The text with every match replaced. Throws what TextBudget::grow throws.
std::string replaced(std::string_view text, const std::vector<Match>& matches, std::string_view content);

}  // namespace bdh::tokenizers
