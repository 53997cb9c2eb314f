// Provisional reads: each token has the bits of reading it alone, and what is not accepted never was.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "bdh/base/error.h"
#include "bdh/model/session.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"

using namespace bdh;
using namespace bdh::test;

namespace {

using Horizons = std::vector<std::vector<float>>;
const Horizons kHorizons = unless_slow(Horizons{{}, {2}, {48}, {INFINITY}}, Horizons{{}, {48}});
const Config kModels[] = {config_of(2, 24, 3, 8, 40), config_of(1, 32, 2, 70, 30)};

/// Reads the text by provisional reads of random lengths, guesses some tokens wrong, and accepts what is
/// right.
std::vector<float> read_by_guesses(Session& session, std::span<const int32_t> tokens, uint32_t seed) {
  std::mt19937 random(seed);
  const auto vocab = static_cast<size_t>(session.weights().config().vocab_size);
  std::vector<float> logits;
  for (size_t at = 0; at < tokens.size();) {
    const size_t length = std::min<size_t>(1 + random() % kMostProvisional, tokens.size() - at);
    const size_t right = random() % (length + 1);
    std::vector<int32_t> guess(tokens.begin() + at, tokens.begin() + at + length);
    if (right < length) guess[right] = (guess[right] + 1) % static_cast<int32_t>(vocab);
    const std::vector<float> rows = session.read_provisional(guess);
    if (right == 0 && random() % 2 == 0) continue;  // dropped by what comes next
    session.accept(static_cast<int64_t>(right));
    logits.insert(logits.end(), rows.begin(), rows.begin() + right * vocab);
    at += right;
    if (random() % 4 != 0 || at == tokens.size()) continue;
    if (random() % 2 == 0) session = session.clone();
    const std::vector<float> one = session.read(tokens.subspan(at++, 1), in_form(Form::recurrent));
    logits.insert(logits.end(), one.begin(), one.end());
  }
  return logits;
}

}  // namespace

TEST_CASE("provisional reads have the bits of single tokens, whatever is accepted") {
  if (backend()->provisional_tokens() == 0) return;
  for (const Config& config : kModels) {
    const std::vector<int32_t> tokens = some_tokens(90, config.vocab_size);
    for (const std::string& variant : variants()) {
      for (const DType dtype : {DType::f32, DType::bf16}) {
        for (const int threads : {1, 2}) {
          const auto weights = random_weights(config, backend(threads, variant), dtype);
          for (const auto& horizon : kHorizons) {
            for (const size_t begin : {size_t{0}, size_t{21}}) {
              CAPTURE(variant);
              CAPTURE(begin);
              // S and the weights as the same dtype: all four pairs would say no more.
              const SessionOptions options{.horizon = horizon, .state_dtype = kOnCuda ? DType::f32 : dtype};
              Session plain(weights, options), guessed(weights, options);
              if (begin > 0) plain.read(std::span(tokens).first(begin));
              if (begin > 0) guessed.read(std::span(tokens).first(begin));
              const std::span<const int32_t> rest = std::span(tokens).subspan(begin);
              const std::vector<float> expected = plain.read_all(rest, in_form(Form::recurrent));
              for (uint32_t seed = 0; seed < unless_slow(3U, 1U); ++seed) {
                Session copy = guessed.clone();
                CHECK(read_by_guesses(copy, rest, seed) == expected);
                CHECK(copy.position() == 90);
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("provisional reads: what cannot be accepted or read is refused") {
  const auto weights = random_weights(kModels[0], backend());
  Session session(weights);
  CHECK_THROWS_AS(session.accept(1), Error);
  const std::vector<int32_t> tokens = some_tokens(9, kModels[0].vocab_size);
  CHECK_THROWS_AS(session.read_provisional(tokens), Error);
  CHECK_THROWS_AS(session.read_provisional({}), Error);
  if (backend()->provisional_tokens() == 0) return;
  session.read_provisional(std::span(tokens).first(3));
  CHECK(session.position() == 0);
  CHECK_THROWS_AS(session.accept(4), Error);
  CHECK_THROWS_AS(session.accept(-1), Error);
  session.accept(2);
  CHECK(session.position() == 2);
  CHECK_THROWS_AS(session.accept(1), Error);
  session.read_provisional(std::span(tokens).first(3));
  session.read(tokens);
  CHECK_THROWS_AS(session.accept(1), Error);
}
