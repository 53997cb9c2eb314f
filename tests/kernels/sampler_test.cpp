// Sampling against goldens from PyTorch (tests/parity/sampling_parity.py), its edges, and the draw itself.
#include "kernels/sampler.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <string>
#include <type_traits>
#include <variant>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/json.h"
#include "kernels/sampling_options.h"
#include "tests/support/programs.h"

using namespace bdh;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
using Tokens = std::vector<int32_t>;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

Json::Array golden(const std::string& name) {
  const std::string path = std::string(bdh::test::kTestData) + "/sampling/" + name;
  return Json::parse(read_text(path, size_t{1} << 20), path).as_array();
}

std::vector<float> floats(const Json& array) {
  std::vector<float> values;
  for (const Json& value : array.as_array()) values.push_back(static_cast<float>(value.as_number()));
  return values;
}

std::vector<int32_t> integers(const Json& array) {
  std::vector<int32_t> values;
  for (const Json& value : array.as_array()) values.push_back(static_cast<int32_t>(value.as_integer()));
  return values;
}

SamplingOptions everything() {
  SamplingOptions options;
  options.temperature = 1;
  options.top_k = 0;
  options.top_p = 1;
  return options;
}

SamplingOptions golden_options(const Json& example) {
  SamplingOptions options;
  const auto read = [&](const Json& value, auto member) {
    using Number = std::remove_reference_t<decltype(options.*member)>;
    options.*member = static_cast<Number>(value.as_number());
  };
  for (const SamplingOption& option : sampling_options()) {
    const Json* value = example.find(option.name);
    if (value) std::visit([&](auto member) { read(*value, member); }, option.member);
  }
  return options;
}

std::vector<int32_t> tokens_of(const std::vector<Candidate>& candidates) {
  std::vector<int32_t> tokens;
  for (const Candidate& candidate : candidates) tokens.push_back(candidate.token);
  return tokens;
}

std::vector<int32_t> kept(const SamplingOptions& options, const std::vector<float>& logits) {
  return tokens_of(Sampler(options).distribution(logits, {}));
}

std::vector<float> noise(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(8 * uniform(77, i));
  return values;
}

ErrorKind kind_of_failure(const SamplingOptions& options, const std::vector<float>& logits,
                          const std::vector<int32_t>& history = {}) {
  try {
    Sampler(options).next(logits, history);
  } catch (const Error& error) {
    return error.kind();
  }
  FAIL("nothing was thrown");
  return ErrorKind::io;
}

}  // namespace

TEST_CASE("the tokens kept and their probabilities are PyTorch's") {
  for (const Json& example : golden("distributions.json")) {
    const std::vector<float> logits = floats(*example.find("logits"));
    CAPTURE(example.dump());
    const Json* banned = example.find("banned");
    const auto found =
        Sampler(golden_options(example))
            .distribution(logits, integers(*example.find("history")), banned ? integers(*banned) : Tokens());
    CHECK(tokens_of(found) == integers(*example.find("tokens")));
    const std::vector<float> expected = floats(*example.find("probabilities"));
    REQUIRE(found.size() == expected.size());
    for (size_t i = 0; i < found.size(); ++i) {
      CHECK(found[i].probability == doctest::Approx(expected[i]).epsilon(2e-6));
    }
  }
}

TEST_CASE("uniform numbers are those of the definition") {
  for (const Json& example : golden("uniforms.json")) {
    const uint64_t seed = std::stoull(example.find("seed")->as_string());
    const uint64_t step = std::stoull(example.find("step")->as_string());
    CHECK(uniform(seed, step) == example.find("u")->as_number());
  }
}

TEST_CASE("greedy takes the first largest logit") {
  const std::vector<float> logits = {1, 3, -2, 3};
  SamplingOptions options;
  options.do_sample = false;
  CHECK(Sampler(options).next(logits, {}) == 1);
  options.do_sample = true;
  options.temperature = 0;
  CHECK(Sampler(options).next(logits, {}) == 1);
  CHECK(Sampler(options).distribution(logits, {}).size() == 1);
}

TEST_CASE("greedy honours the repetition penalty") {
  SamplingOptions options;
  options.do_sample = false;
  options.repetition_penalty = 2;
  CHECK(Sampler(options).next(std::vector<float>{1, 3, 2}, Tokens{1, 1, 1}) == 2);
  CHECK(Sampler(options).next(std::vector<float>{-1, -3, -1.5f}, Tokens{0}) == 2);
}

TEST_CASE("a seed gives the same tokens, another one others") {
  const std::vector<float> logits = noise(100);
  const auto draw = [&](uint64_t seed) {
    SamplingOptions options = everything();
    options.seed = seed;
    Sampler sampler(options);
    Tokens tokens;
    for (int i = 0; i < 50; ++i) tokens.push_back(sampler.next(logits, {}));
    return tokens;
  };
  CHECK(draw(5) == draw(5));
  CHECK(draw(5) != draw(6));
}

TEST_CASE("draws follow the distribution") {
  const std::vector<float> logits = {0, 1, 2, 0.5f, -1, 1, 1.5f, 3};
  SamplingOptions options = everything();
  options.temperature = 1.2f;
  options.top_p = 0.9f;
  Sampler sampler(options);
  constexpr int kDraws = 20000;
  std::vector<int> counts(logits.size());
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.next(logits, {})];
  int drawn = 0;
  for (const auto& [token, probability] : sampler.distribution(logits, {})) {
    const double deviation = std::sqrt(kDraws * probability * (1 - probability));
    CHECK(std::abs(counts[token] - kDraws * probability) < 4.5 * deviation);
    drawn += counts[token];
  }
  CHECK(drawn == kDraws);
}

TEST_CASE("the draw is the inverse of the running sum over ranks") {
  const std::vector<float> logits = noise(1000);
  SamplingOptions options = everything();
  options.seed = 3;
  Sampler sampler(options);
  const auto candidates = sampler.distribution(logits, {});
  REQUIRE(candidates.size() == logits.size());
  for (uint64_t step = 0; step < 200; ++step) {
    double sum = 0;
    size_t rank = 0;
    while ((sum += candidates[rank].probability) <= uniform(options.seed, step)) ++rank;
    CHECK(sampler.next(logits, {}) == candidates[rank].token);
  }
}

TEST_CASE("candidates come by falling score, equal ones by rising token") {
  const std::vector<float> logits(1000, 2.5f);
  const Tokens tokens = kept(everything(), logits);
  REQUIRE(tokens.size() == 1000);
  for (int32_t i = 0; i < 1000; ++i) CHECK(tokens[i] == i);
}

TEST_CASE("top_k keeps what equals the k-th, top_p only what it needs") {
  SamplingOptions options = everything();
  options.top_k = 2;
  CHECK(kept(options, {1, 2, 3, 2, 0, 2}) == Tokens{2, 1, 3, 5});
  options = everything();
  options.top_p = 0.5f;
  CHECK(kept(options, {2, 2, 2, 2}) == Tokens{0, 1});
  options.top_p = 0;
  CHECK(kept(options, {2, 2, 2, 2}) == Tokens{0});
}

TEST_CASE("extreme numbers stay in range") {
  constexpr float kLargest = std::numeric_limits<float>::max();
  SamplingOptions options = everything();
  options.temperature = std::numeric_limits<float>::denorm_min();
  CHECK(Sampler(options).next(std::vector<float>{-kLargest, 5, kLargest}, {}) == 2);
  options.temperature = kLargest;
  CHECK(kept(options, {-kLargest, kLargest}).size() == 2);
  options.repetition_penalty = 1e-38f;
  CHECK(kept(options, {1, kLargest}).size() == 2);
  CHECK(Sampler(options).next(std::vector<float>{1, kLargest}, Tokens{1, 0}) >= 0);
}

TEST_CASE("a logit of -Inf is never drawn") {
  SamplingOptions options = everything();
  options.top_k = 3;
  CHECK(kept(options, {-kInfinity, 1, -kInfinity}) == Tokens{1});
}

TEST_CASE("logits that are not finite are an error that says why") {
  SamplingOptions greedy;
  greedy.do_sample = false;
  for (const SamplingOptions& options : {everything(), greedy}) {
    CHECK(kind_of_failure(options, {1, kNaN}) == ErrorKind::bad_file);
    CHECK(kind_of_failure(options, {kNaN, kNaN}) == ErrorKind::bad_file);
    CHECK(kind_of_failure(options, {1, kInfinity}) == ErrorKind::bad_file);
    CHECK(kind_of_failure(options, {-kInfinity, -kInfinity}) == ErrorKind::bad_file);
    CHECK(kind_of_failure(options, {}) == ErrorKind::invalid_argument);
  }
}

TEST_CASE("a history token outside the vocabulary is an error") {
  SamplingOptions options;
  options.repetition_penalty = 1.1f;
  CHECK(kind_of_failure(options, {1, 2}, {2}) == ErrorKind::invalid_argument);
  CHECK(kind_of_failure(options, {1, 2}, {-1}) == ErrorKind::invalid_argument);
}

TEST_CASE("a banned token is never drawn; where all are, greedy takes token 0 and a draw is an error") {
  SamplingOptions greedy;
  greedy.do_sample = false;
  const std::vector<float> logits = {1, 3, 2};
  CHECK(Sampler(greedy).next(logits, {}, Tokens{1}) == 2);
  CHECK(Sampler(greedy).next(logits, {}, Tokens{0, 1, 2, 1}) == 0);
  CHECK(tokens_of(Sampler(everything()).distribution(logits, {}, Tokens{1})) == Tokens{2, 0});
  CHECK(Sampler(everything()).next(logits, {}, Tokens{1, 2}) == 0);
  CHECK_THROWS_WITH_AS(Sampler(everything()).next(logits, {}, Tokens{0, 1, 2}),
                       doctest::Contains("every token is banned or suppressed"), Error);
  CHECK_THROWS_AS(Sampler(greedy).next(logits, {}, Tokens{3}), Error);
  Draw draw{.options = greedy, .vocab = 2};
  const Tokens banned{1};
  draw.banned = banned;
  CHECK(Sampler().draw(draw, logits) == 0);
}

TEST_CASE("extreme filters keep at least one token") {
  const std::vector<float> logits = {-1e30f, 0, 1e30f, 5};
  for (const float small : {std::numeric_limits<float>::denorm_min(), 1e-6f, 0.5f, 1.0f}) {
    SamplingOptions options = everything();
    options.min_p = options.typical_p = options.epsilon_cutoff = options.eta_cutoff = small;
    CHECK(kept(options, logits) == Tokens{2});
    CHECK(!kept(options, noise(50)).empty());
    CHECK(!kept(options, std::vector<float>(50, 1.0f)).empty());
    CHECK(Sampler(options).next(noise(50), {}) >= 0);
  }
}

TEST_CASE("options out of range are named") {
  const auto message = [](auto change) -> std::string {
    SamplingOptions options;
    change(options);
    try {
      options.validate();
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::invalid_argument);
      return error.what();
    }
    return "";
  };
  const auto names = [](const std::string& text, const char* option) { return text.find(option) == 0; };
  for (const float bad : {-1.0f, kNaN, kInfinity}) {
    CHECK(names(message([&](SamplingOptions& o) { o.temperature = bad; }), "temperature"));
    CHECK(names(message([&](SamplingOptions& o) { o.top_p = bad; }), "top_p"));
    CHECK(names(message([&](SamplingOptions& o) { o.repetition_penalty = bad; }), "repetition_penalty"));
  }
  CHECK(names(message([](SamplingOptions& o) { o.repetition_penalty = 0; }), "repetition_penalty"));
  CHECK(names(message([](SamplingOptions& o) { o.top_k = -1; }), "top_k"));
  CHECK(message([](SamplingOptions&) {}).empty());
}
