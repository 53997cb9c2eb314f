// Regular expressions as Oniguruma's Ruby syntax writes them, which is what the `tokenizers` package reads,
// rewritten for PCRE2.
#pragma once

#include <string>
#include <string_view>

namespace bdh::tokenizers {

struct Pcre2Pattern {
  std::string text;
  // Where PCRE2 10.42 goes wrong with its optimizations: it makes repetitions before atomic groups
  // possessive, and wants a character twice that a lookahead and what follows it both begin with.
  bool atomic = false, looks_ahead = false;
};

/// The pattern for PCRE2 with UTF, UCP and MULTILINE that matches what `pattern` matches in Oniguruma. What
/// cannot be exact is refused by name: grapheme clusters (\X, \y; Regex knows them alone), callouts,
/// conditions, absence, levels of references, bytes beyond ASCII, and without regard to case what other
/// characters stand for (ß for ss) where it would take more than an alternative. `where` names it in errors.
/// Throws Error(bad_file): not valid there either; Error(unsupported).
Pcre2Pattern pcre2_pattern(std::string_view pattern, const std::string& where);

}  // namespace bdh::tokenizers
