// Sessions with a horizon: the forms agree with one another, wherever a text starts and in every batch.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/model/session.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"
#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

Session session_of(const WeightsPointer& weights, std::vector<float> horizon) {
  return Session(weights, {.horizon = std::move(horizon)});
}

std::vector<float> logits_of(const WeightsPointer& weights, const std::vector<float>& horizon,
                             std::span<const int32_t> tokens, const ReadOptions& options) {
  Session session = session_of(weights, horizon);
  return session.read_all(tokens, options);
}

/// A session that stands at `position` and remembers nothing.
Session session_at(const WeightsPointer& weights, const std::vector<float>& horizon, int64_t position) {
  Session session = session_of(weights, horizon);
  session.start_at(position);
  return session;
}

const Config kModels[] = {config_of(2, 24, 3, 8, 40), config_of(1, 48, 2, unless_slow(50, 4), 30)};
const std::vector<float> kHorizons[] = {{0.5f}, {2}, {9.5f}, {48}, {kInfinity}};

}  // namespace

TEST_CASE("horizon: the three forms are one function") {
  for (const Config& config : kModels) {
    const auto weights = random_weights(config, backend(2));
    const std::vector<int32_t> tokens = some_tokens(unless_slow(300, 40), config.vocab_size);
    std::vector<std::vector<float>> horizons(std::begin(kHorizons), std::end(kHorizons));
    std::vector<float> by_head;
    for (int64_t head = 0; head < config.n_head; ++head)
      by_head.push_back(head == 1 ? kInfinity : static_cast<float>(3 + 7 * head));
    horizons.push_back(by_head);
    for (const std::vector<float>& horizon : horizons) {
      CAPTURE(horizon.front());
      const std::vector<float> expected = logits_of(weights, horizon, tokens, in_form(Form::parallel));
      CHECK(relative_difference(logits_of(weights, horizon, tokens, in_form(Form::recurrent)), expected) <
            1e-5);
      for (const int64_t chunk : {7, 64})
        CHECK(relative_difference(logits_of(weights, horizon, tokens, in_form(Form::chunked, chunk)),
                                  expected) < 1e-5);
      Session mixed = session_of(weights, horizon);
      std::vector<float> logits = mixed.read_all(std::span(tokens).first(13), in_form(Form::recurrent));
      append(logits, mixed.read_all(std::span(tokens).subspan(13, 10), in_form(Form::parallel)));
      append(logits, mixed.read_all(std::span(tokens).subspan(23), in_form(Form::recurrent)));
      CHECK(relative_difference(logits, expected) < 1e-5);
    }
  }
}

TEST_CASE("horizon: far tokens fade, and none at all without one") {
  const auto weights = random_weights(kModels[0], backend());
  const std::vector<int32_t> tokens = some_tokens(40, kModels[0].vocab_size);
  const auto recurrent = in_form(Form::recurrent);
  const std::vector<float> plain = Session(weights).read_all(tokens, recurrent);
  CHECK(relative_difference(logits_of(weights, {kInfinity}, tokens, recurrent), plain) < 1e-4);
  CHECK(relative_difference(logits_of(weights, {5}, tokens, recurrent), plain) > 1e-2);
  CHECK(logits_of(weights, {}, tokens, recurrent) == plain);
  std::vector<int32_t> other = tokens;
  other[0] = (other[0] + 1) % static_cast<int32_t>(kModels[0].vocab_size);
  const auto last = [&](const std::vector<int32_t>& text) {
    return session_of(weights, {1}).read(text, recurrent);
  };
  CHECK(relative_difference(last(other), last(tokens)) < 1e-6);
  CHECK(relative_difference(Session(weights).read(other), Session(weights).read(tokens)) > 1e-4);
}

TEST_CASE("horizon: a text is the same wherever it starts") {
  const auto weights = random_weights(kModels[1], backend());
  const std::vector<int32_t> tokens = some_tokens(unless_slow(100, 20), kModels[1].vocab_size);
  for (const auto& horizon : {std::vector<float>{20}, std::vector<float>{kInfinity}}) {
    const std::vector<float> expected = logits_of(weights, horizon, tokens, in_form(Form::chunked));
    for (const int64_t start :
         {int64_t{100'000}, int64_t{16'000'000}, int64_t{1} << 40, (int64_t{1} << 53) - 1000}) {
      CAPTURE(start);
      for (const Form form : {Form::chunked, Form::recurrent})
        CHECK(relative_difference(session_at(weights, horizon, start).read_all(tokens, in_form(form)),
                                  expected) < 1e-5);
    }
  }
}

TEST_CASE("horizon: batches of sessions with horizons of their own, and without") {
  const auto weights = random_weights(kModels[0], backend());
  const std::vector<int32_t> tokens = some_tokens(30, kModels[0].vocab_size);
  const std::vector<std::vector<float>> horizons = {{}, {4}, {kInfinity}, {}, {2, 30, 9}};
  for (const Form form : {Form::parallel, Form::recurrent}) {
    std::vector<Session> sessions;
    for (const auto& horizon : horizons) sessions.push_back(session_of(weights, horizon));
    std::vector<Session*> batch;
    for (Session& session : sessions) batch.push_back(&session);
    std::vector<std::span<const int32_t>> texts;
    for (size_t i = 0; i < batch.size(); ++i) texts.push_back(std::span(tokens).subspan(i, 20));
    const std::vector<float> together = read_batch(batch, texts, in_form(form));
    const size_t vocab = together.size() / batch.size();
    for (size_t i = 0; i < batch.size(); ++i) {
      CAPTURE(i);
      const std::vector<float> alone = session_of(weights, horizons[i]).read(texts[i], in_form(form));
      CHECK(relative_difference({together.begin() + i * vocab, together.begin() + (i + 1) * vocab}, alone) <
            1e-5);
    }
  }
}

TEST_CASE("horizon: clones and saved states go on, and nothing decays into denormal numbers") {
  const auto weights = random_weights(kModels[0], backend());
  const std::vector<int32_t> tokens = some_tokens(unless_slow(600, 80), kModels[0].vocab_size);
  const std::span<const int32_t> begin = std::span(tokens).first(tokens.size() - 20),
                                 rest = std::span(tokens).last(20);
  for (const Form form : {Form::chunked, Form::recurrent}) {
    Session session = session_at(weights, {2}, 1'000'000);
    session.read(begin, in_form(form, 16));
    Session copy = session.clone();
    const SavedSession saved = session.save();
    Session restored = session_of(weights, {2});
    restored.restore(saved);
    const std::vector<float> expected = session.read_all(rest, in_form(form));
    CHECK(copy.read_all(rest, in_form(form)) == expected);
    CHECK(restored.read_all(rest, in_form(form)) == expected);
    const auto* values = reinterpret_cast<const float*>(saved.state.s.data);
    int64_t denormal = 0;
    for (int64_t i = 0; i < saved.state.s.numel(); ++i)
      denormal += std::fpclassify(values[i]) == FP_SUBNORMAL;
    CHECK(denormal == 0);
  }
}

TEST_CASE("horizon: numbers that cannot be one are refused") {
  const auto weights = random_weights(kModels[0], backend());
  for (const std::vector<float>& horizon :
       {std::vector<float>{0}, {-1}, {std::nanf("")}, {1, 2}, {1, 2, 3, 4}}) {
    const auto thrown = thrown_by([&] { session_of(weights, horizon); });
    CHECK(thrown.kind == ErrorKind::invalid_argument);
    CHECK(thrown.says("horizon must be"));
  }
}
