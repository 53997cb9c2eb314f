// The CPU's state in token form: one function with S, the same bits whatever comes between.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <random>

#include "bdh/model/session.h"
#include "kernels/saved_state.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr int64_t kColumns = 128;                       // of a model of this width: two blocks
constexpr int64_t kFirstFlush = 141, kLastFlush = 144;  // that make S of columns, of its four tiles
const Config kConfig = config_of(2, 256, 2, 5, 40);
constexpr int64_t kTokens = 180;

std::span<const int32_t> part(const std::vector<int32_t>& tokens, int64_t begin, int64_t end) {
  return std::span(tokens).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

using Lengths = std::vector<int64_t>;
const Lengths kPositions = {1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 141, 142, 143, 144, 145};
using Horizons = std::vector<std::vector<float>>;
const Horizons kHorizons = unless_slow(Horizons{{}, {40}, {9, INFINITY}}, Horizons{{}, {9, INFINITY}});

SessionOptions options_of(const std::vector<float>& horizon, DType s = DType::f32) {
  return {.horizon = horizon, .state_dtype = s};
}

struct Text {
  WeightsPointer weights = random_weights(kConfig, backend(unless_slow(2, 1)));
  std::vector<int32_t> tokens = some_tokens(kTokens, kConfig.vocab_size);

  Session begun(int64_t count, int64_t chunk, const SessionOptions& options) const {
    Session session(weights, options);
    session.read(part(tokens, 0, count), in_form(chunk == 1 ? Form::recurrent : Form::chunked, chunk));
    return session;
  }
  std::vector<float> rest(Session& session) const {
    return session.read_all(part(tokens, session.position(), kTokens), in_form(Form::recurrent));
  }
};

}  // namespace

TEST_CASE("token form: single tokens and chunks of any length are one function, before S and after") {
  const Text text;
  for (const auto& horizon : kHorizons) {
    Session parallel(text.weights, options_of(horizon)), single(text.weights, options_of(horizon));
    const std::vector<float> expected = parallel.read_all(text.tokens, in_form(Form::parallel));
    CHECK(relative_difference(single.read_all(text.tokens, in_form(Form::recurrent)), expected) < 1e-5);
    for (const int64_t chunk : unless_slow(Lengths{3, 16, 40, 64, 127, 128, 129}, Lengths{16, 127})) {
      Session chunked(text.weights, options_of(horizon));
      CHECK(relative_difference(chunked.read_all(text.tokens, in_form(Form::chunked, chunk)), expected) <
            1e-5);
    }
    std::mt19937 random(5);
    for (int i = 0; i < unless_slow(10, 2); ++i) {
      Session mixed(text.weights, options_of(horizon));
      std::vector<float> logits;
      while (mixed.position() < kTokens) {
        const int64_t at = mixed.position(), end = std::min<int64_t>(kTokens, at + 1 + random() % 30);
        const Form form = random() % 2 == 0 ? Form::recurrent : Form::parallel;
        append(logits, mixed.read_all(part(text.tokens, at, end), in_form(form)));
      }
      CHECK(relative_difference(logits, expected) < 1e-5);
    }
  }
}

TEST_CASE("token form: kept and cloned at every position, a text goes on with the same bits") {
  const Text text;
  for (const auto& horizon : kHorizons) {
    for (const DType s : {DType::f32, DType::bf16}) {
      for (const int64_t position : unless_slow(kPositions, Lengths{17, 129, 145})) {
        CAPTURE(position);
        for (const int64_t chunk : {1, 50}) {
          Session session = text.begun(position, chunk, options_of(horizon, s));
          const SavedSession saved = session.save();
          const int64_t last = chunk == 1 ? kFirstFlush : kColumns;  // without S
          CHECK((saved.state.s.data == nullptr) == (position <= last));
          CHECK((saved.state.first == 0) == (position <= (chunk == 1 ? kLastFlush : kColumns)));
          Session cloned = session.clone(), restored(text.weights, options_of(horizon, s));
          restored.read(part(text.tokens, 0, 150));
          restored.restore(saved);
          const std::vector<float> expected = text.rest(session);
          CHECK(text.rest(cloned) == expected);
          CHECK(text.rest(restored) == expected);
        }
      }
    }
  }
}

TEST_CASE("token form: what a text leaves is the same S, and begins anywhere") {
  const Text text;
  for (const auto& horizon : kHorizons) {
    const std::vector<float> by_head = horizon.size() == 1 ? std::vector<float>(2, horizon[0]) : horizon;
    Session session = text.begun(100, 1, options_of(horizon)), whole(text.weights, options_of(horizon));
    SavedSession saved = session.save();
    saved.state = {.position = 100, .s = folded(saved.state, kConfig.dimensions(), by_head), .base = 100};
    whole.restore(saved);
    CHECK(relative_difference(text.rest(whole), text.rest(session)) < 1e-5);
    Session late(text.weights, options_of(horizon)), late_chunks(text.weights, options_of(horizon));
    late.start_at(1000);
    late_chunks.start_at(1000);
    CHECK(relative_difference(late.read_all(text.tokens, in_form(Form::recurrent)),
                              late_chunks.read_all(text.tokens, in_form(Form::chunked, 60))) < 1e-5);
  }
}

TEST_CASE("token form: at position 0 nothing is remembered, whatever a state says it holds") {
  const Text text;
  Session session = text.begun(160, 1, {}), fresh(text.weights);
  SavedSession saved = session.save();
  saved.state = {.position = 0, .s = saved.state.s};
  session.restore(saved);
  CHECK(session.read(text.tokens) == fresh.read(text.tokens));
}

TEST_CASE("token form: provisional tokens, those where S is made among them, have the bits of single ones") {
  const Text text;
  std::mt19937 random(3);
  for (const auto& horizon : kHorizons) {
    for (const DType s : {DType::f32, DType::bf16}) {
      for (int64_t begin = kFirstFlush - 5; begin <= kLastFlush + 1; begin += unless_slow(1, 4)) {
        Session session = text.begun(begin, 1, options_of(horizon, s)), guessed = session.clone();
        const std::vector<float> expected = text.rest(session);
        std::vector<float> logits;
        while (guessed.position() < kTokens) {
          const int64_t at = guessed.position(), most = std::min<int64_t>(kMostProvisional, kTokens - at);
          const std::vector<float> rows = guessed.read_provisional(part(text.tokens, at, at + most));
          const auto right = static_cast<int64_t>(random() % (most + 1));
          guessed.accept(right);
          logits.insert(logits.end(), rows.begin(), rows.begin() + right * kConfig.vocab_size);
        }
        CHECK(logits == expected);
      }
    }
  }
}

#ifndef BDH_SANITIZED  // whose own memory would be measured
TEST_CASE("token form: a text takes memory as it goes on, never more than it says, and gives it back") {
  const auto resident = [] {
    size_t all = 0, pages = 0;
    std::ifstream("/proc/self/statm") >> all >> pages;
    return static_cast<double>(pages) * static_cast<double>(sysconf(_SC_PAGESIZE));
  };
  const Config config = config_of(2, 256, 4, 64, 40);
  const std::vector<int32_t> tokens = some_tokens(kTokens, config.vocab_size);
  Text text{random_weights(config, backend(2)), tokens};
  text.begun(20, 1, {});  // what all sessions share
  const double before = resident();
  Session session(text.weights);
  const auto bytes = static_cast<double>(session.bytes());
  double most = 0;
  for (int64_t t = 0; t < kTokens; ++t) {
    session.read(part(tokens, t, t + 1));
    most = std::max(most, resident() - before);
    if (t == 15) CHECK(most < 0.6 * bytes);
  }
  CHECK(most > 0.9 * bytes);
  CHECK(most < 1.05 * bytes + 2e6);
  session.reset();
  CHECK(resident() - before < 0.6 * bytes);
}
#endif

TEST_CASE("a copy has the bits of what it is a copy of, in memory that another text has had") {
  const Text text;
  for (DType s : {DType::f32, DType::bf16}) {
    for (const int64_t was : unless_slow(Lengths{5, 100, 170}, Lengths{170})) {
      for (const int64_t count : unless_slow(Lengths{1, 3, 60, 135, 150}, Lengths{3, 135})) {
        CAPTURE(was);
        CAPTURE(count);
        Session from = text.begun(count, 1, options_of({40}, s)),
                copy = text.begun(was, 16, options_of({40}, s));
        const size_t bytes = copy.bytes();
        copy.copy(from);
        CHECK(copy.position() == count);
        CHECK(copy.bytes() == bytes);
        CHECK(text.rest(copy) == text.rest(from));
      }
    }
    Session other(text.weights, options_of({}, s));
    other.copy(text.begun(30, 1, options_of({9, INFINITY}, DType::f32)));
    CHECK(other.options().horizon == std::vector<float>{9, INFINITY});
    CHECK(other.options().state_dtype == DType::f32);
    CHECK(text.rest(other) == [&] {
      Session plain = text.begun(30, 1, options_of({9, INFINITY}, DType::f32));
      return text.rest(plain);
    }());
  }
}
