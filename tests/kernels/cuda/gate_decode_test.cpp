// gate_decode against float64: x and counts, for any density; and the simplest decode against both families.
#include "kernels/cuda/gate_decode.h"

#include <doctest/doctest.h>

#include <vector>

#include "kernels/cuda/attention_decode.h"
#include "kernels/cuda/decode_reference.h"
#include "tests/kernels/cuda/cases.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr double kTolerance = 2e-5;
constexpr int kLayer = 1;

Numbers part(const Numbers& from, size_t which, int64_t count) {
  const auto begin = from.begin() + static_cast<std::ptrdiff_t>(which) * count;
  return {begin, begin + count};
}

Numbers x_of(const DecodeCase& decode) {
  const cuda::Sizes sizes = decode.model.sizes();
  return unpadded(download(decode.buffers.x, int64_t{decode.count} * sizes.stride), sizes.width,
                  sizes.stride);
}

cuda::DecodeCounts totals(const DecodeCase& decode, size_t sequence) {
  cuda::DecodeCounts counts{};
  download_bytes(&counts, decode.buffers.totals + kLayer * decode.count + static_cast<int>(sequence),
                 sizeof counts);
  return counts;
}

void check(const KernelModel& model, double density, int count, bool shared_lists) {
  CAPTURE(count);
  CAPTURE(shared_lists);
  const cuda::Sizes sizes = model.sizes();
  DecodeCase decode(model, std::vector<int64_t>(static_cast<size_t>(count), 3));
  decode.buffers.shared_lists = shared_lists;
  const Numbers n = random_activity(decode.count * sizes.rows(), 21, density);
  const Numbers attended = random_numbers(int64_t{decode.count} * sizes.heads * sizes.width, 22, 1.7);
  const auto run = [&] {
    decode.reset();
    upload(decode.buffers.n, n);
    upload(decode.buffers.attended, padded(attended, sizes.width, sizes.stride));
    cuda::gate_decode(model.packed(), decode.buffers, kLayer, decode.stream.get());
    return x_of(decode);
  };
  const Numbers got = run();
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    Numbers g = part(n, i, sizes.rows());
    const Numbers v = gate_values(model, kLayer, part(attended, i, int64_t{sizes.heads} * sizes.width));
    int active = 0;
    for (size_t j = 0; j < g.size(); ++j) active += (g[j] *= v[j]) != 0;
    const Numbers want = residual(part(decode.x, i, sizes.width), mix(model, kLayer, g));
    CHECK(worst(part(got, i, sizes.width), want) <= kTolerance);
    CHECK(std::abs(totals(decode, i).g - active) <= 1);
  }
  CHECK(run() == got);
}

}  // namespace

TEST_CASE("CUDA gate decode: float64's numbers for any density, the same bits twice") {
  for (const DType dtype : kWeights) {
    CAPTURE(name_of(dtype));
    for (const double density : {0.0, 0.05, 0.5, 1.0}) {
      CAPTURE(density);
      check(KernelModel(untied(config_of(2, 20, 5, 7, 33)), dtype), density, 3, false);
      check(KernelModel(untied(config_of(2, 48, 3, 9, 33)), dtype), density, 3, false);
    }
    check(KernelModel(untied(config_of(2, 300, 2, 1, 33)), dtype), 0.5, 2, false);
  }
}

TEST_CASE("CUDA gate decode: sequences that share lists get what each gets alone") {
  for (const DType dtype : kWeights) {
    CAPTURE(name_of(dtype));
    for (const int count : {1, 3, 4, 7}) {  // parts of a group of four, whole ones, both
      for (const double density : {0.0, 0.1, 1.0})
        check(KernelModel(untied(config_of(2, 20, 5, 7, 33)), dtype), density, count, true);
    }
    check(KernelModel(untied(config_of(3, 48, 3, 9, 33)), dtype), 0.3, 5,
          true);  // N 144: a block and a part of one
    check(KernelModel(untied(config_of(2, 300, 2, 1, 33)), dtype), 0.5, 3,
          true);  // two vectors a lane: groups of two
    check(KernelModel(untied(config_of(2, 516, 2, 1, 33)), dtype), 0.5, 2, true);  // four: none
  }
}

TEST_CASE("CUDA: the simplest decode gives what the fast ones give, state and counts included") {
  for (const DType dtype : kWeights) {
    const KernelModel model(untied(config_of(2, 44, 3, 9, 33)), dtype);
    DecodeCase fast(model, {0, 100000}), reference(model, {0, 100000});
    cuda::attention_decode(model.packed(), fast.buffers, kLayer, fast.stream.get());
    cuda::gate_decode(model.packed(), fast.buffers, kLayer, fast.stream.get());
    cuda::decode_layer_reference(model.packed(), reference.buffers, kLayer, reference.stream.get());
    CHECK(worst(x_of(reference), x_of(fast)) <= kTolerance);
    for (size_t i = 0; i < 2; ++i) {
      CHECK(worst(reference.states[i].now(model), fast.states[i].now(model)) <= kTolerance);
      CHECK(std::abs(totals(reference, i).n - totals(fast, i).n) <= 1);
      CHECK(std::abs(totals(reference, i).pairs - totals(fast, i).pairs) <= 1);
      CHECK(std::abs(totals(reference, i).g - totals(fast, i).g) <= 1);
    }
  }
}
