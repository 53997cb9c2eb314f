// What goes on inside: x, what fires, and the strongest synapses, against what is known of them otherwise.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "bdh/base/error.h"
#include "bdh/model/session_file.h"
#include "bdh/model/synapses.h"
#include "tests/support/backends.h"
#include "tests/support/models.h"

using namespace bdh;
using namespace bdh::test;

namespace {

const Config kConfig = config_of(3, 32, 2, 4, 60);

std::vector<int32_t> some_tokens(size_t count) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < count; ++i) tokens.push_back(static_cast<int32_t>((i * i + 3 * i) % 60));
  return tokens;
}

}  // namespace

TEST_CASE("x of a read: the logits are made of it, and each row has mean 0 and variance 1") {
  const WeightsPointer weights = random_weights(kConfig, backend());
  Session session(weights);
  const std::vector<int32_t> tokens = some_tokens(20);
  std::vector<float> x(20 * 32), logits(20 * 60);
  const SessionRead read{&session, tokens, logits, x};
  if (!weights->backend().tells_inside()) {
    CHECK_THROWS_WITH_AS(read_batch({&read, 1}), doctest::Contains("--device cpu"), Error);
    CHECK(session.position() == 0);
    return;
  }
  ReadOptions options;
  options.chunk = 7;
  read_batch({&read, 1}, options);
  const Tensor head = weights->state_dict().at("lm_head");
  for (size_t t = 0; t < 20; ++t) {
    const std::span<const float> row = std::span(x).subspan(t * 32, 32);
    CHECK(std::accumulate(row.begin(), row.end(), 0.0) == doctest::Approx(0).epsilon(1e-4));
    CHECK(std::inner_product(row.begin(), row.end(), row.begin(), 0.0) == doctest::Approx(32).epsilon(1e-3));
    for (size_t v = 0; v < 60; ++v) {
      double logit = 0;
      for (size_t d = 0; d < 32; ++d) {
        float weight = 0;
        std::memcpy(&weight, head.data + (d * 60 + v) * sizeof weight, sizeof weight);
        logit += double{row[d]} * weight;
      }
      CHECK(logits[t * 60 + v] == doctest::Approx(logit).epsilon(1e-4));
    }
  }
  const SessionRead too_few{&session, tokens, {}, std::span(x).first(32)};
  CHECK_THROWS_WITH_AS(read_batch({&too_few, 1}), doctest::Contains("numbers of x"), Error);
}

TEST_CASE("what fires, neuron by neuron, is what activity counts, in a batch as alone") {
  const WeightsPointer weights = random_weights(kConfig, backend());
  if (!weights->backend().tells_inside()) return;
  Session first(weights), second(weights);
  first.read(some_tokens(30));
  second.read(some_tokens(5));
  Session alone = first.clone();
  const std::vector<int32_t> token{7};
  const std::span<const int32_t> tokens[] = {token, token};
  Session* const sessions[] = {&first, &second};
  TokenTrace trace, one_trace;
  std::vector<LayerActivity> activity;
  TokenTrace* const wanted[] = {&trace, nullptr};
  ReadOptions options;
  options.traces = wanted;
  const std::vector<float> logits = read_batch(sessions, tokens, options);

  Session* const one[] = {&alone};
  TokenTrace* const one_wanted[] = {&one_trace};
  options.traces = one_wanted;
  options.activity = &activity;
  const std::vector<float> one_logits = read_batch(one, std::span(tokens).first(1), options);
  CHECK(std::equal(one_logits.begin(), one_logits.end(), logits.begin()));

  REQUIRE(trace.size() == 3);
  for (size_t layer = 0; layer < 3; ++layer) {
    const std::vector<FiredNeuron>& fired = trace[layer];
    int64_t gated = 0;
    for (size_t i = 0; i < fired.size(); ++i) {
      CHECK(fired[i].n > 0);
      CHECK((i == 0 || fired[i - 1].neuron < fired[i].neuron));
      CHECK(fired[i].neuron == one_trace[layer][i].neuron);
      CHECK(fired[i].g == one_trace[layer][i].g);
      gated += fired[i].g > 0;
    }
    CHECK(std::ssize(fired) == activity[layer].n);
    CHECK(gated == activity[layer].g);
  }
  options.traces = wanted;
  CHECK_THROWS_WITH_AS(read_batch(one, std::span(tokens).first(1), options), doctest::Contains("traces"),
                       Error);
}

TEST_CASE("the strongest synapses are the largest entries of S, and their tokens add up to them") {
  const WeightsPointer weights = random_weights(kConfig, backend());
  if (!weights->backend().tells_inside()) return;
  for (const std::vector<float>& horizon : {std::vector<float>(), std::vector<float>{9.0f, 30.0f}}) {
    CAPTURE(horizon.size());
    Session session(weights, {.horizon = horizon});
    session.read(some_tokens(40));
    const SavedSession saved = session.save(KeptForm::tokens);
    const Dimensions dims = kConfig.dimensions();
    const Tensor s = folded(session.save().state, dims, horizon);
    const auto synapses = strongest_synapses(saved.state, dims, horizon, 20, 40);
    REQUIRE(synapses.size() == 20);
    std::vector<float> sizes;
    for (int64_t i = 0; i < s.numel(); ++i) {
      float value = 0;
      std::memcpy(&value, s.data + static_cast<size_t>(i) * sizeof value, sizeof value);
      sizes.push_back(std::abs(value));
    }
    std::sort(sizes.rbegin(), sizes.rend());
    for (size_t i = 0; i < 20; ++i) {
      CHECK(std::abs(synapses[i].value) == doctest::Approx(sizes[i]).epsilon(1e-4));
      double sum = 0;
      for (const SynapseSource& source : synapses[i].sources) sum += source.value;
      CHECK(sum == doctest::Approx(synapses[i].value).epsilon(1e-3));
    }
    CHECK(strongest_synapses(saved.state, dims, horizon, 1, 2).front().sources.size() <= 2);
    CHECK_THROWS_WITH_AS(strongest_synapses(session.save().state, dims, horizon, 1, 1),
                         doctest::Contains("its 40 tokens"), Error);
  }
  CHECK(strongest_synapses(Session(weights).save(KeptForm::tokens).state, kConfig.dimensions(), {}, 5, 5)
            .empty());
}
