// Bracketed classes of regular expressions: [a-z[:alpha:]\w&&[^x]], from Oniguruma's syntax to PCRE2's.
#pragma once

#include <string>

#include "bdh/text/tokenizers/character_sets.h"
#include "bdh/text/tokenizers/pattern_reader.h"

namespace bdh::tokenizers {

struct ClassContext {
  bool any_case;  // without regard to case
  bool behind;    // in a lookbehind, where a class may only be one character
};

/// A PCRE2 pattern for the class that begins here with '['. Throws Error(bad_file), Error(unsupported).
std::string class_pattern(PatternReader& reader, const ClassContext& context);

/// A PCRE2 pattern for a character of the set, or not of it, outside brackets.
std::string set_pattern(const CharacterSet& set, bool negated, bool any_case);

/// After \p or \P: the set between braces. `negated` changes for \p{^...}.
CharacterSet read_property(PatternReader& reader, Place place, bool& negated);

/// The character for PCRE2, outside brackets and inside.
std::string quoted(char32_t c);

}  // namespace bdh::tokenizers
