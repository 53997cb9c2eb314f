// Banned tokens: each rule alone, as Hugging Face's logits processors have it.
#include "bdh/text/banned_tokens.h"

#include <doctest/doctest.h>

using namespace bdh;

namespace {

using Tokens = std::vector<int32_t>;

const std::set<int64_t> kEnds{0, 9, 300};
constexpr int64_t kVocab = 256;

struct Rules : GenerationConfig {
  /// After a text of which the first `prompt` tokens were given; by default it has just been.
  std::set<int32_t> after(const Tokens& text, size_t prompt = 0) const {
    BannedTokens banned(*this, kEnds, kVocab);
    const size_t given = prompt > 0 ? prompt : text.size();
    const auto tokens = banned.after(text, static_cast<int64_t>(given), given == text.size());
    return {tokens.begin(), tokens.end()};
  }
};

using Set = std::set<int32_t>;

}  // namespace

TEST_CASE("banned tokens: none without a rule") { CHECK(Rules().after({1, 2, 3, 1, 2}).empty()); }

TEST_CASE("banned tokens: suppressed ones, always and at the beginning") {
  Rules rules;
  rules.suppress_tokens = {4, 4, 256, -1, 1LL << 40};
  rules.begin_suppress_tokens = {5, 300};
  CHECK(rules.after({1, 2}) == Set{4, 5});
  CHECK(rules.after({1, 2}, 1) == Set{4});
}

TEST_CASE("banned tokens: no end before the lengths") {
  Rules by_length, by_new;
  by_length.min_length = 3;
  CHECK(by_length.after({1, 2}) == Set{0, 9});
  CHECK(by_length.after({1, 2, 3}).empty());
  by_new.min_new_tokens = 2;
  CHECK(by_new.after({1, 2, 3, 4}) == Set{0, 9});
  CHECK(by_new.after({1, 2, 3, 4}, 3) == Set{0, 9});
  CHECK(by_new.after({1, 2, 3, 4}, 2).empty());
}

TEST_CASE("banned tokens: bad words, once the text has what comes before their last token") {
  Rules rules;
  rules.bad_words_ids = {{4}, {9}, {9, 9}, {1, 2, 3}, {2, 8}, {7, 2, 6}, {1, 300}};
  CHECK(rules.after({1}) == Set{4});
  CHECK(rules.after({1, 2}) == Set{3, 4, 8});
  CHECK(rules.after({2}) == Set{4, 8});
  CHECK(rules.after({1, 9}) == Set{4, 9});
  CHECK(rules.after({2, 1}) == Set{4});
}

TEST_CASE("banned tokens: n-grams of prompt and text, while the text grows") {
  Rules rules;
  rules.no_repeat_ngram_size = 2;
  CHECK(rules.after({1, 2, 1, 3, 1}, 2) == Set{2, 3});
  CHECK(rules.after({1, 2, 3}).empty());
  BannedTokens banned(rules, kEnds, 2);
  Tokens text{1, 1, 5};
  CHECK(banned.after(text, 3, true).empty());
  text.push_back(1);
  const auto tokens = banned.after(text, 3, false);
  CHECK(Tokens(tokens.begin(), tokens.end()) == Tokens{1});
  CHECK(banned.contains(1));
  CHECK(!banned.contains(5));
}
