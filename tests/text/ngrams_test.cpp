// N-grams of a growing text against a plain search of the whole of it.
#include "bdh/text/ngrams.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <set>

#include "kernels/sampler.h"

using namespace bdh;

namespace {

using Tokens = std::vector<int32_t>;

/// What has followed the last size - 1 tokens, found by looking everywhere.
std::set<int32_t> searched(const Tokens& text, size_t size) {
  std::set<int32_t> tokens;
  for (size_t end = size; end <= text.size(); ++end) {
    const auto begin = text.begin() + static_cast<std::ptrdiff_t>(end - size);
    if (std::equal(text.end() - static_cast<std::ptrdiff_t>(size - 1), text.end(), begin))
      tokens.insert(text[end - 1]);
  }
  return tokens;
}

Tokens completions(Ngrams& ngrams, const Tokens& text) {
  Tokens tokens;
  ngrams.extend(text);
  ngrams.add_completions(tokens);
  return tokens;
}

}  // namespace

TEST_CASE("n-grams: the tokens that have followed, each once, as a search finds them") {
  for (const size_t size : {1, 2, 3, 5, 17}) {
    Ngrams ngrams(static_cast<int64_t>(size));
    Tokens text;
    for (uint64_t i = 0; i < 400; ++i) {
      text.push_back(static_cast<int32_t>(uniform(size, i) * (i < 200 ? 3 : 2000000000)) *
                     (i % 7 == 0 ? 0 : 1));
      if (i % 3 == 1) continue;
      Tokens found = completions(ngrams, text);
      std::sort(found.begin(), found.end());
      const std::set<int32_t> wanted = searched(text, size);
      CHECK(found == Tokens(wanted.begin(), wanted.end()));
    }
  }
}

TEST_CASE("n-grams: nothing follows in a text that is too short") {
  Ngrams pairs(2), huge(std::numeric_limits<int64_t>::max());
  CHECK(completions(pairs, {}).empty());
  CHECK(completions(pairs, {5}).empty());
  CHECK(completions(pairs, {5, 5}) == Tokens{5});
  CHECK(completions(huge, Tokens(1000, 1)).empty());
}

TEST_CASE("n-grams: a million tokens that are all the same") {
  const Tokens text(1'000'000, 7);
  for (const int64_t size : {1, 2, 500'000}) {
    Ngrams ngrams(size);
    CHECK(completions(ngrams, text) == Tokens{7});
  }
}
