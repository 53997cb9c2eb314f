// attention_decode against float64: n, norm(a), the new state, counts; every dtype, odd sizes, any position.
#include "kernels/cuda/attention_decode.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/kernels/cuda/cases.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr double kTolerance = 2e-5;
constexpr int kLayer = 1;

// Of one sequence: n (H*N), attended (H, D), and the layer's S afterwards.
struct Expected {
  Numbers n, attended, s;
};

Expected expected_of(const DecodeCase& decode, size_t sequence) {
  const auto [layers, width, heads, neurons, vocab, sets] = decode.model.dims;
  const double* x = decode.x.data() + static_cast<int64_t>(sequence) * width;
  Expected out{encode(decode.model, kLayer, x), {}, decode.states[sequence].before};
  const Numbers r = rotate(decode.model, out.n, decode.sequences[sequence].position);
  double* s = out.s.data() + kLayer * heads * neurons * width;
  for (int64_t h = 0; h < heads; ++h) {
    Numbers a(static_cast<size_t>(width));
    for (int64_t j = h * neurons; j < (h + 1) * neurons; ++j) {
      for (int64_t d = 0; d < width; ++d) {
        a[static_cast<size_t>(d)] += r[static_cast<size_t>(j)] * s[j * width + d];
        s[j * width + d] += r[static_cast<size_t>(j)] * x[d];
      }
    }
    const Numbers row = norm(a);
    out.attended.insert(out.attended.end(), row.begin(), row.end());
  }
  return out;
}

void check_counts(const DecodeCase& decode, size_t sequence, const Numbers& n) {
  const auto blocks = static_cast<size_t>(decode.model.dims.heads * blocks_per_head(decode.model.sizes()));
  std::vector<cuda::DecodeCounts> counts(static_cast<size_t>(decode.count) * blocks);
  download_bytes(counts.data(), decode.buffers.counts, counts.size() * sizeof(cuda::DecodeCounts));
  int active = 0, pairs = 0, want_active = 0, want_pairs = 0;
  for (size_t i = 0; i < blocks; ++i)
    active += counts[sequence * blocks + i].n, pairs += counts[sequence * blocks + i].pairs;
  for (size_t j = 0; j < n.size(); j += 2) {
    want_active += (n[j] > 0) + (n[j + 1] > 0);
    want_pairs += n[j] > 0 || n[j + 1] > 0;
  }
  CHECK(std::abs(active - want_active) <= 1);  // a sum within rounding of zero may fall on either side
  CHECK(std::abs(pairs - want_pairs) <= 1);
}

void check(const KernelModel& model, const std::vector<int64_t>& positions) {
  const cuda::Sizes sizes = model.sizes();
  DecodeCase decode(model, positions);
  cuda::attention_decode(model.packed(), decode.buffers, kLayer, decode.stream.get());
  const Numbers n = download(decode.buffers.n, decode.count * sizes.rows());
  const Numbers attended =
      unpadded(download(decode.buffers.attended, int64_t{decode.count} * sizes.heads * sizes.stride),
               sizes.width, sizes.stride);
  std::vector<Numbers> states;
  for (size_t i = 0; i < decode.states.size(); ++i) {
    CAPTURE(positions[i]);
    const Expected want = expected_of(decode, i);
    const auto row = [i](const Numbers& from, size_t count) {
      const auto begin = from.begin() + static_cast<std::ptrdiff_t>(i * count);
      return Numbers(begin, begin + static_cast<std::ptrdiff_t>(count));
    };
    CHECK(worst(row(n, want.n.size()), want.n) <= kTolerance);
    CHECK(worst(row(attended, want.attended.size()), want.attended) <= kTolerance);
    states.push_back(decode.states[i].now(model));
    CHECK(worst(states.back(), want.s) <= kTolerance);
    check_counts(decode, i, want.n);
  }
  decode.reset();
  cuda::attention_decode(model.packed(), decode.buffers, kLayer, decode.stream.get());
  CHECK(download(decode.buffers.n, decode.count * sizes.rows()) == n);
  CHECK(unpadded(download(decode.buffers.attended, int64_t{decode.count} * sizes.heads * sizes.stride),
                 sizes.width, sizes.stride) == attended);
  for (size_t i = 0; i < states.size(); ++i) CHECK(decode.states[i].now(model) == states[i]);
}

}  // namespace

TEST_CASE("CUDA attention decode: float64's numbers, the same bits twice") {
  for (const DType dtype : kWeights) {
    CAPTURE(name_of(dtype));
    check(KernelModel(untied(config_of(2, 20, 5, 7, 33)), dtype), {0, 1, 3});  // D and N no whole vectors
    check(KernelModel(untied(config_of(3, 48, 3, 9, 33)), dtype),
          {5, 0});  // N 144: a block and a part of one
    check(KernelModel(untied(config_of(2, 300, 2, 1, 33)), dtype), {100000});        // two vectors a lane
    check(KernelModel(untied(config_of(2, 6, 1, 1, 33)), dtype), {0, 7, 8, 9, 10});  // N 6
  }
}

TEST_CASE("CUDA attention decode: positions as the reference rounds them") {
  const KernelModel model(config_of(2, 16, 2, 8, 33), DType::f32);
  check(model, {99999, 100000, 1000003, 16777217, 2147483646});
}
