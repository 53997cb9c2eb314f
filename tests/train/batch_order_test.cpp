// Orders of micro-batches: what an epoch reads, and that any step can be had again.
#include "bdh/train/batch_order.h"

#include <doctest/doctest.h>

#include <cstring>
#include <limits>
#include <numeric>
#include <set>

#include "bdh/base/tensor.h"
#include "bdh/formats/safetensors.h"
#include "bdh/train/permutation.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

using namespace bdh;
using test::TemporaryDirectory;
using test::Thrown;
using test::thrown_by;

namespace {

/// 0, 1, 2, ..: a token tells where it stands.
TokenData counted(int64_t size) {
  std::vector<int32_t> tokens(static_cast<size_t>(size));
  std::iota(tokens.begin(), tokens.end(), 0);
  return TokenData::of(std::move(tokens));
}

/// The first token of each sequence, of so many steps from `first` on.
std::vector<int32_t> beginnings(const BatchOrder& order, int64_t block, int64_t first, int64_t steps,
                                int64_t accumulate = 1) {
  std::vector<int32_t> begins;
  for (int64_t i = 0; i < steps * accumulate; ++i) {
    const BatchTokens tokens = order.batch(first + i / accumulate, i % accumulate);
    for (size_t row = 0; row < tokens.inputs.size(); row += static_cast<size_t>(block))
      begins.push_back(tokens.inputs[row]);
  }
  return begins;
}

bool follows(const BatchTokens& tokens) {
  for (size_t i = 0; i < tokens.inputs.size(); ++i)
    if (tokens.targets[i] != tokens.inputs[i] + 1) return false;
  return tokens.targets.size() == tokens.inputs.size();
}

Tensor tokens_tensor(DType dtype, Shape shape, const std::vector<int64_t>& numbers) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(dtype, std::move(shape), &data);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const auto narrow = static_cast<int32_t>(numbers[i]);
    std::memcpy(data + i * size_of(dtype),
                dtype == DType::i64 ? static_cast<const void*>(&numbers[i]) : &narrow, size_of(dtype));
  }
  return tensor;
}

}  // namespace

TEST_CASE("permutation: every number once, another for each seed and number") {
  for (const int64_t size : {1, 2, 3, 5, 8, 99, 100, 101, 1000, 4097}) {
    std::set<int64_t> seen;
    for (int64_t i = 0; i < size; ++i) seen.insert(permuted(i, size, 7, 3));
    CHECK(static_cast<int64_t>(seen.size()) == size);
    CHECK(*seen.begin() == 0);
    CHECK(*seen.rbegin() == size - 1);
  }
  const auto row = [](uint64_t seed, uint64_t number) {
    std::vector<int64_t> places;
    for (int64_t i = 0; i < 100; ++i) places.push_back(permuted(i, 100, seed, number));
    return places;
  };
  CHECK(row(1, 0) == row(1, 0));
  CHECK(row(1, 0) != row(2, 0));
  CHECK(row(1, 0) != row(1, 1));
  CHECK(permuted(0, int64_t{1} << 62, 1, 0) < int64_t{1} << 62);
}

TEST_CASE("permutation: neighbours end up anywhere") {
  constexpr int64_t kSize = 1000, kNumbers = 200;
  double distance = 0;
  std::vector<int64_t> first_places(10);
  for (uint64_t number = 0; number < kNumbers; ++number) {
    const int64_t a = permuted(0, kSize, 5, number), b = permuted(1, kSize, 5, number);
    distance += static_cast<double>(std::abs(a - b)) / kNumbers;
    ++first_places[static_cast<size_t>(a / 100)];
  }
  CHECK(distance > 250);  // a third of the size where both are uniform
  CHECK(distance < 420);
  for (const int64_t count : first_places) CHECK(count > 4);  // of 20
}

TEST_CASE("shuffled blocks: all of an epoch once, without overlap") {
  constexpr int64_t kBlock = 7, kBatch = 3;
  const auto order = shuffled_blocks(counted(1000), kBlock, kBatch, 1, 42);
  const int64_t per_epoch = 1000 / kBlock - 1;
  CHECK(order->steps_per_epoch() == per_epoch / kBatch);
  CHECK(order->steps() == std::numeric_limits<int64_t>::max());
  const std::vector<int32_t> begins = beginnings(*order, kBlock, 0, 3 * per_epoch);
  std::set<std::vector<int32_t>> orders;
  std::set<int32_t> offsets;
  for (int64_t epoch = 0; epoch < 9; ++epoch) {
    const auto from = begins.begin() + epoch * per_epoch;
    const std::set<int32_t> seen(from, from + per_epoch);
    CHECK(static_cast<int64_t>(seen.size()) == per_epoch);
    CHECK(*seen.rbegin() - *seen.begin() == (per_epoch - 1) * kBlock);
    CHECK(*seen.rbegin() + kBlock < 1000);
    offsets.insert(*seen.begin());
    orders.insert({from, from + per_epoch});
  }
  CHECK(orders.size() == 9);
  CHECK(offsets.size() > 3);
  CHECK(follows(order->batch(17, 0)));
  CHECK_FALSE(order->batch(17, 0).continues);
}

TEST_CASE("shuffled blocks: the seed alone decides, and micro-batches only cut") {
  const auto order = shuffled_blocks(counted(500), 4, 6, 1, 9);
  const auto same = shuffled_blocks(counted(500), 4, 6, 1, 9);
  const auto cut = shuffled_blocks(counted(500), 4, 2, 3, 9);
  const auto other = shuffled_blocks(counted(500), 4, 6, 1, 10);
  CHECK(beginnings(*order, 4, 30, 20) == beginnings(*same, 4, 30, 20));
  CHECK(beginnings(*order, 4, 0, 40) == beginnings(*cut, 4, 0, 40, 3));
  CHECK(beginnings(*order, 4, 0, 40) != beginnings(*other, 4, 0, 40));
  CHECK(order->hash() == same->hash());
  for (const auto* different : {&cut, &other}) CHECK(order->hash() != (*different)->hash());
  CHECK(order->hash() != shuffled_blocks(counted(501), 4, 6, 1, 9)->hash());
  CHECK(order->hash() != shuffled_blocks(counted(500), 5, 6, 1, 9)->hash());
  CHECK(order->hash() != consecutive_blocks(counted(500), 4, 6, 1, 9)->hash());
}

TEST_CASE("shuffled blocks: tiny data is read again and again") {
  for (const int64_t size : {6, 7, 9, 10, 11, 15}) {
    const auto order = shuffled_blocks(counted(size), 5, 4, 2, 1);
    CHECK(order->steps_per_epoch() == 1);
    std::set<int32_t> seen;
    for (int64_t step = 0; step < 50; ++step)
      for (int64_t micro = 0; micro < 2; ++micro) {
        const BatchTokens tokens = order->batch(step, micro);
        CHECK(follows(tokens));
        seen.insert(tokens.targets.begin(), tokens.targets.end());
      }
    CHECK(*seen.rbegin() == size - 1);
  }
  const Thrown none = thrown_by([] { shuffled_blocks(counted(5), 5, 1, 1, 1); });
  CHECK(none.kind == ErrorKind::invalid_argument);
  CHECK(none.says("5 tokens, too few for a block of 5"));
  CHECK(thrown_by([] { shuffled_blocks({}, 5, 1, 1, 1); }).kind == ErrorKind::invalid_argument);
}

TEST_CASE("orders: what cannot be asked is refused") {
  for (const auto& make : {shuffled_blocks, consecutive_blocks}) {
    for (const auto& asked :
         {std::array<int64_t, 3>{0, 1, 1}, {1, 0, 1}, {1, 1, 0}, {1, int64_t{1} << 40, int64_t{1} << 40}})
      CHECK(thrown_by([&] { make(counted(100), asked[0], asked[1], asked[2], 1); }).kind ==
            ErrorKind::invalid_argument);
    const auto order = make(counted(100), 5, 2, 2, 1);
    for (const auto& asked : {std::array<int64_t, 2>{-1, 0}, {0, -1}, {0, 2}, {INT64_MAX / 2, 0}})
      CHECK(thrown_by([&] { order->batch(asked[0], asked[1]); }).kind == ErrorKind::invalid_argument);
    CHECK_NOTHROW(order->batch(int64_t{1} << 50, 1));
  }
}

TEST_CASE("consecutive blocks: each stream goes on where it was") {
  constexpr int64_t kBlock = 5, kBatch = 2, kAccumulate = 2;
  const auto order = consecutive_blocks(counted(211), kBlock, kBatch, kAccumulate, 3);
  CHECK(order->steps_per_epoch() == 10);
  std::set<int32_t> offsets;
  for (int64_t epoch = 0; epoch < 12; ++epoch) {
    std::set<int32_t> seen;
    for (int64_t step = 0; step < 10; ++step)
      for (int64_t micro = 0; micro < kAccumulate; ++micro) {
        const BatchTokens tokens = order->batch(epoch * 10 + step, micro);
        CHECK(tokens.continues == (step > 0));
        CHECK(follows(tokens));
        seen.insert(tokens.inputs.begin(), tokens.inputs.end());
        if (step == 0) continue;
        const BatchTokens before = order->batch(epoch * 10 + step - 1, micro);
        for (size_t row = 0; row < kBatch; ++row)
          CHECK(tokens.inputs[row * kBlock] == before.targets[row * kBlock + kBlock - 1]);
      }
    CHECK(seen.size() == 200);
    offsets.insert(*seen.begin());
  }
  CHECK(offsets.size() > 2);
  CHECK(thrown_by([] { consecutive_blocks(counted(20), 5, 2, 2, 3); }).says("4 streams"));
}

TEST_CASE("given batches: exactly those of the file") {
  const TemporaryDirectory directory;
  for (const DType dtype : {DType::i32, DType::i64}) {
    std::vector<int64_t> numbers(3 * 4 * 6);
    std::iota(numbers.begin(), numbers.end(), 0);
    write_safetensors(directory / "b", {{"tokens", tokens_tensor(dtype, {3, 4, 6}, numbers)}}, {});
    const auto order = given_batches(directory / "b", 2, 72);
    CHECK(order->steps() == 3);
    CHECK(order->steps_per_epoch() == 3);
    const BatchTokens tokens = order->batch(2, 1);
    CHECK(tokens.inputs == std::vector<int32_t>{60, 61, 62, 63, 64, 66, 67, 68, 69, 70});
    CHECK(tokens.targets == std::vector<int32_t>{61, 62, 63, 64, 65, 67, 68, 69, 70, 71});
    CHECK_FALSE(tokens.continues);
    CHECK(thrown_by([&] { order->batch(3, 0); }).kind == ErrorKind::invalid_argument);
    CHECK(thrown_by([&] { order->batch(0, 2); }).kind == ErrorKind::invalid_argument);
    CHECK(order->hash() != given_batches(directory / "b", 1, 72)->hash());
    const Thrown outside = thrown_by([&] { given_batches(directory / "b", 1, 71); });
    CHECK(outside.kind == ErrorKind::bad_file);
    CHECK(outside.says("token 71 of step 2, sequence 3"));
  }
}

TEST_CASE("given batches: other shapes, types and numbers are refused") {
  const TemporaryDirectory directory;
  const auto refusal = [&](Tensor tensor, int64_t accumulate, const char* name = "tokens") {
    write_safetensors(directory / "b", {{name, std::move(tensor)}}, {});
    return thrown_by([&] { given_batches(directory / "b", accumulate, 10); });
  };
  for (const Shape& shape : {Shape{6}, Shape{2, 3}, Shape{1, 2, 3, 1}, Shape{2, 3, 1}, Shape{0, 3, 2}}) {
    const auto size = static_cast<size_t>(element_count(shape));
    const Thrown thrown = refusal(tokens_tensor(DType::i32, shape, std::vector<int64_t>(size)), 1);
    CHECK(thrown.kind == ErrorKind::bad_file);
    CHECK(thrown.says("(steps, B, T + 1)"));
  }
  const std::vector<int64_t> zeros(12);
  CHECK(refusal(tokens_tensor(DType::f32, {2, 3, 2}, {}), 1).says("I32 or I64"));
  CHECK(refusal(tokens_tensor(DType::i32, {2, 3, 2}, zeros), 2).says("--accumulate"));
  CHECK(refusal(tokens_tensor(DType::i32, {2, 3, 2}, zeros), 0).kind == ErrorKind::invalid_argument);
  CHECK(refusal(tokens_tensor(DType::i32, {2, 3, 2}, zeros), 1, "ids").says("tokens"));
  CHECK(refusal(tokens_tensor(DType::i32, {1, 1, 2}, {0, -1}), 1).says("token -1"));
  CHECK(refusal(tokens_tensor(DType::i64, {1, 1, 2}, {int64_t{1} << 33, 0}), 1).says("8589934592"));
  CHECK(thrown_by([&] { given_batches(directory / "none", 1, 10); }).kind == ErrorKind::not_found);
}
