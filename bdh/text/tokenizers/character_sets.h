// Sets of characters that regular expressions have names for, as the `tokenizers` package's Oniguruma defines
// them, in PCRE2's words.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace bdh::tokenizers {

/// What a class written with the set gains without regard to case.
enum class Cased {
  none,  // nothing: none of its characters has case, or both cases are in it; none folds to several
  all,   // nothing, but every character that folds to several is in it
  some,  // something that bdh does not know
};

struct CharacterSet {
  std::string members;  // to stand between PCRE2's brackets
  Cased cased = Cased::none;
  std::string gained = {};  // members that it gains without regard to case
};

CharacterSet space_set();
CharacterSet no_space_set();
CharacterSet digit_set();
CharacterSet hex_digit_set();

/// Some sets are others between brackets.
enum class Place { outside, brackets };
CharacterSet word_set(
    Place place);  // \w; outside, which is what \b is about, some superscripts and fractions, too

/// [:name:]; nothing: there is none.
std::optional<CharacterSet> posix_set(std::string_view name);

/// \p{written}, whatever the case, spaces, - and _ of the name; nothing: the name is not one that bdh knows
/// to be the same set in PCRE2.
std::optional<CharacterSet> property_set(std::string_view written, Place place);

}  // namespace bdh::tokenizers
