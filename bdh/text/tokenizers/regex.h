// Regular expressions on valid UTF-8, through PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bdh::tokenizers {

struct Match {
  size_t begin, end;
};

/// Immutable: any number of threads may share it.
class Regex {
 public:
  /// `pattern` in Oniguruma's syntax. `where` names it in errors, here and later. Throws Error(bad_file) when
  /// it is not valid, Error(unsupported).
  Regex(std::string_view pattern, std::string where);

  /// All matches from left to right. An empty match right after another one does not count. Throws
  /// Error(bad_file) when matching takes more steps, time (TextBudget, or this text's own) or memory than a
  /// reasonable expression needs.
  void find_all(std::string_view text, std::vector<Match>& matches) const;

 private:
  struct Code;
  std::string where_;
  std::string pattern_;
  std::shared_ptr<const Code> code_;
};

}  // namespace bdh::tokenizers
