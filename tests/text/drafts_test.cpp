// Drafts: what is guessed, and that a text with them is the text without.
#include "bdh/text/drafts.h"

#include <doctest/doctest.h>

#include <random>

#include "bdh/text/generation.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"

using namespace bdh;
using namespace bdh::test;

namespace {

using Tokens = std::vector<int32_t>;

Tokens tokens_of(const std::string& text) { return {text.begin(), text.end()}; }

struct Told {
  GenerationResult result;
  std::vector<std::string> pieces;
  int64_t position;
  std::vector<float> after;  // logits of a token more

  const GeneratedText& text() const { return result.texts[0]; }
};

Told tell(const WeightsPointer& weights, const std::string& prompt, const GenerationConfig& config,
          bool drafts, size_t cancelled_after = SIZE_MAX) {
  Session session(weights);
  Session* pointer = &session;
  Told told;
  GenerationCallbacks callbacks;
  callbacks.on_text = [&](size_t, std::string_view text) {
    told.pieces.emplace_back(text);
    return told.pieces.size() < cancelled_after;
  };
  GenerationContext context;
  context.drafts = drafts;
  told.result = generate({&pointer, 1}, ByteTokenizer(), {&prompt, 1}, config, callbacks, {}, context);
  told.position = session.position();
  told.after = session.read(Tokens{1}, in_form(Form::recurrent));
  return told;
}

void check_same(const Told& with, const Told& without) {
  CHECK(with.text().tokens == without.text().tokens);
  CHECK(with.text().text == without.text().text);
  CHECK(with.text().finish == without.text().finish);
  CHECK(with.text().next.step == without.text().next.step);
  CHECK(with.pieces == without.pieces);
  CHECK(with.position == without.position);
  CHECK(with.after == without.after);
  CHECK(with.result.decode_tokens == without.result.decode_tokens);
}

}  // namespace

TEST_CASE("drafts: what followed the longest n-gram the last time") {
  Drafts drafts;
  const Tokens text = tokens_of("abcdefghijk1 abcdefghijk2 abcdefghijk");
  CHECK(drafts.next(text, 7) == tokens_of("2 "));
  drafts.confirm(2);
  CHECK(drafts.next(text, 3) == tokens_of("2 a"));
  CHECK(drafts.next(tokens_of("nothing twice"), 7).empty());
  CHECK(Drafts().next({}, 7).empty());
  CHECK(Drafts().next(text, 0).empty());
}

TEST_CASE("drafts: guesses that fail are left out for longer and longer") {
  Drafts drafts;
  Tokens text = tokens_of("abcdefghijklabcdefghijkl");
  int guesses = 0;
  for (int i = 0; i < 300; ++i) {
    guesses += !drafts.next(text, 7).empty();
    drafts.confirm(0);
  }
  CHECK(guesses > 3);
  CHECK(guesses < 12);
}

TEST_CASE("drafts: 100 prompts, greedy and sampled, the text is the same") {
  const auto weights = random_weights(config_of(2, 16, 2, 4), backend(2));
  std::mt19937 random(5);
  int64_t guessed = 0;
  for (int i = 0; i < 100; ++i) {
    std::string prompt;
    for (size_t j = 0; j < 3 + random() % 40; ++j) prompt += static_cast<char>('a' + random() % 4);
    GenerationConfig config;
    config.max_new_tokens = static_cast<int64_t>(random() % 150);
    config.sampling.seed = random();
    config.sampling.do_sample = i % 2 == 0;
    config.sampling.top_k = i % 4 == 0 ? 2 : 50;
    if (i % 3 == 0) config.sampling.repetition_penalty = 1.3f;
    if (i % 5 == 0) config.stop = {"e", "ab"};
    if (i % 7 == 0) config.eos = {'a' + i % 20, 200};
    if (i % 11 == 0) config.horizon = {6};
    CAPTURE(i);
    const size_t cancelled = i % 13 == 0 ? 1 + random() % 30 : SIZE_MAX;
    const Told with = tell(weights, prompt, config, true, cancelled);
    check_same(with, tell(weights, prompt, config, false, cancelled));
    guessed += with.result.draft_tokens;
  }
  CHECK((guessed > 100 || backend()->provisional_tokens() == 0));
}
