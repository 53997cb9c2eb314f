// Characters that are several characters without regard to case: ss for ß.
#pragma once

#include <string>
#include <vector>

namespace bdh::tokenizers {

struct CaseFold {
  char32_t character;
  std::u32string folded;  // of two or three characters
};

/// All of Unicode's full case folds to several characters, the shorter ones first.
const std::vector<CaseFold>& case_folds();

/// The character's simple case fold.
char32_t case_folded(char32_t c);
/// It has an upper case or a lower case that is another character.
bool has_case(char32_t c);

}  // namespace bdh::tokenizers
