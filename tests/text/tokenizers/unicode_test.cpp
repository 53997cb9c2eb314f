// Characters as the `tokenizers` package sees them: where its older tables differ from today's, and normal
// forms.
#include "bdh/text/tokenizers/unicode.h"

#include <doctest/doctest.h>

using namespace bdh::tokenizers;

TEST_CASE("unicode: categories are those of the package's tables") {
  CHECK(is_nonspacing_mark(0x301));
  CHECK(is_nonspacing_mark(0x1734));
  for (const char32_t c : {0x1885, 0xA9BD, 0x111C9, 0x1ABF, 0x41}) CHECK_FALSE(is_nonspacing_mark(c));
  CHECK(is_punctuation(0x111C9));
  CHECK(is_punctuation('$'));
  CHECK_FALSE(is_punctuation(0x2E52));
  CHECK(is_mark(0x1CF2));
  CHECK_FALSE(is_mark(0x111C9));
  CHECK(is_control(0x200B));
  CHECK_FALSE(is_white_space(0x200B));
  CHECK_FALSE(is_white_space(0x180E));
  CHECK(is_word(0x200D));
  CHECK(is_word(0x24B6));
  CHECK_FALSE(is_word(0xB2));
  CHECK(is_number(0xB2));
}

TEST_CASE("unicode: normal forms leave characters newer than the tables alone") {
  CHECK(normalized("e\u0301\u0323", NormalForm::nfc) == "\u1EB9\u0301");
  CHECK(normalized("\u1EB9\u0301", NormalForm::nfd) == "e\u0323\u0301");
  CHECK(normalized("\uFB01\u00BD", NormalForm::nfkc) == "fi1\u20442");
  CHECK(normalized("\uAC01", NormalForm::nfd) == "\u1100\u1161\u11A8");
  CHECK(normalized("\u1100\u1161\u11A8", NormalForm::nfc) == "\uAC01");
  CHECK(normalized("\u32FF", NormalForm::nfkc) == "\u32FF");
  CHECK(lowered("\u0130\u03A3A") == "i\u0307\u03C3a");
}

TEST_CASE("unicode: clusters of characters") {
  const std::string text = "e\u0301\U0001F468\u200D\U0001F469x";
  CHECK(grapheme_end(text, 0) == 3);
  CHECK(grapheme_end(text, 3) == 14);
  CHECK(character_before(text, 14) == 10);
  CHECK(count_characters(text) == 6);
}
