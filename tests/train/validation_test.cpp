// Validation: blocks and streams against losses computed directly.
#include "bdh/train/validation.h"

#include <doctest/doctest.h>

#include "tests/support/models.h"
#include "tests/support/planes.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr int64_t kVocab = 19;

struct Bench {
  std::unique_ptr<Training> training = small_training();
  std::unique_ptr<Plane> parameters = patterned_plane(*training, 1);
  std::unique_ptr<Ranks> ranks = single_rank();
  Exchange exchange{*ranks};

  LossSum of(const Validation& validation) {
    return validation.loss(*training, *parameters, exchange, [](int64_t) { return true; }).value();
  }
  // Of the tokens [begin, begin + count) as one sequence.
  double direct(const std::vector<int32_t>& text, int64_t begin, int64_t count) {
    const std::span all(text);
    const auto first = static_cast<size_t>(begin), size = static_cast<size_t>(count);
    return training
        ->loss(*parameters, {.sequences = 1,
                             .tokens = count,
                             .inputs = all.subspan(first, size),
                             .targets = all.subspan(first + 1, size)})
        .nats;
  }
};

}  // namespace

TEST_CASE("validation in blocks predicts every whole block") {
  Bench bench;
  const std::vector<int32_t> text = some_tokens(1203, kVocab);
  for (const int64_t block : {1, 7, 50, 601, 1202}) {
    CAPTURE(block);
    const Validation validation(TokenData::of(text), block, 0, false);
    double want = 0;
    for (int64_t begin = 0; begin + block < 1203; begin += block) want += bench.direct(text, begin, block);
    const LossSum got = bench.of(validation);
    CHECK(got.tokens == 1202 / block * block);
    CHECK(got.tokens == validation.tokens());
    CHECK(got.nats == doctest::Approx(want).epsilon(1e-6));
  }
}

TEST_CASE("validation of a stream reads on over the ends of blocks, to the last token") {
  Bench bench;
  const std::vector<int32_t> text = some_tokens(100, kVocab);
  const LossSum got = bench.of(Validation(TokenData::of(text), 8, 0, true));
  CHECK(got.tokens == 99);
  CHECK(got.nats == doctest::Approx(bench.direct(text, 0, 99)).epsilon(1e-5));
  const LossSum blocks = bench.of(Validation(TokenData::of(text), 8, 0, false));
  CHECK(std::abs(blocks.nats / 96 - got.nats / 99) > 1e-3);
}

TEST_CASE("validation reads at most the tokens it is given, in whole blocks, and their share of bytes") {
  Bench bench;
  const std::vector<int32_t> text = some_tokens(101, kVocab);
  const auto bytes = std::make_shared<std::vector<uint8_t>>(text.begin(), text.end());
  const TokenData data(bytes, reinterpret_cast<const std::byte*>(bytes->data()), 101, 1, 404);
  const Validation some(data, 8, 20, false);
  CHECK(bench.of(some).tokens == 24);
  CHECK(some.text_bytes() == doctest::Approx(4 * 24));
  CHECK(bench.of(Validation(data, 8, 20, true)).tokens == 20);
  CHECK(bench.of(Validation(data, 8, 1000, false)).tokens == 96);
}

TEST_CASE("a text that has no block is no validation") {
  CHECK(Validation({}, 8, 0, false).empty());
  CHECK(Validation({}, 1, 0, false).empty());
  CHECK(Validation({}, 8, 0, true).empty());
  CHECK(Validation(TokenData::of({1, 2, 3}), 3, 0, false).empty());
  CHECK_FALSE(Validation(TokenData::of({1, 2, 3}), 2, 0, false).empty());
}

TEST_CASE("validation asks between pieces whether to go on") {
  Bench bench;
  const Validation validation(TokenData::of(some_tokens(5000, kVocab)), 500, 0, false);
  std::vector<int64_t> told;
  const auto loss = validation.loss(*bench.training, *bench.parameters, bench.exchange, [&](int64_t done) {
    told.push_back(done);
    return told.size() < 3;
  });
  CHECK_FALSE(loss.has_value());
  CHECK(told == std::vector<int64_t>{0, 1000, 2000});
}
