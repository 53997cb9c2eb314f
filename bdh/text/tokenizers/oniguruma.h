// Regular expressions as Oniguruma's Ruby syntax writes them, which is what the `tokenizers` package reads,
// rewritten for PCRE2.
#pragma once

#include <string>
#include <string_view>

namespace bdh::tokenizers {

/// The pattern for PCRE2 with UTF, UCP and MULTILINE that matches what `pattern` matches in Oniguruma:
/// character classes with unions and intersections, \s \w \h \b by Unicode's definitions, (?m) for a dot that
/// matches line breaks, {n}+ as a repeated repetition. Case folds to several characters (ss for ß) are the
/// known difference. `where` names it in errors. Throws Error(bad_file) and Error(unsupported).
std::string pcre2_pattern(std::string_view pattern, const std::string& where);

}  // namespace bdh::tokenizers
