// encode_prefill against float64: n and r, and above all the rotation, at any position.
#include "kernels/cuda/encode_prefill.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/kernels/cuda/cases.h"
#include "tests/support/backends.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr int kLayer = 1;
constexpr double kRotationTolerance = 1e-6;  // an angle's rounding and the polynomials'

struct Encoded {
  Numbers n, r;  // (R, H*N)
};

Encoded encoded(PrefillCase& chunk) {
  cuda::encode_prefill(chunk.model.packed(), chunk.buffers, kLayer, chunk.stream.get());
  const cuda::PrefillBuffers& buffers = chunk.buffers;
  const int64_t count = int64_t{buffers.rows} * chunk.model.sizes().heads * buffers.columns;
  const auto rows = [&](const void* from) {
    return without_columns(chunk.model, download(from, count, buffers.activations), buffers.columns);
  };
  return {rows(buffers.n), rows(buffers.r)};
}

Numbers row_of(const Numbers& rows, size_t row, int64_t count) {
  const auto begin = rows.begin() + static_cast<std::ptrdiff_t>(row) * count;
  return {begin, begin + count};
}

void check_mma(const KernelModel& model, const std::vector<CaseSegment>& segments, cuda::Mma mma) {
  PrefillCase chunk(model, segments, mma);
  const Encoded got = encoded(chunk);
  const int64_t count = model.sizes().rows();
  const DType activations = chunk.buffers.activations;
  unsigned long long active = 0;
  for (size_t row = 0; row < chunk.plan.rows.size(); ++row) {
    const Numbers n = row_of(got.n, row, count),
                  want = encode(model, kLayer, chunk.x.data() + row * model.dims.width);
    CHECK(worst(n, want) <= tolerance_of(activations));
    active += static_cast<unsigned long long>(
        std::count_if(want.begin(), want.end(), [](double v) { return v > 0; }));
    // From the numbers that the kernel rotates, which are rounded to the activations' dtype only afterwards.
    const Numbers& from = activations == DType::f32 ? n : want;
    CHECK(worst(row_of(got.r, row, count), rotate(model, from, chunk.plan.rows[row].position)) <=
          (activations == DType::f32 ? kRotationTolerance : tolerance_of(activations)));
  }
  cuda::PrefillCounts counts{};
  download_bytes(&counts, chunk.buffers.counts + kLayer, sizeof counts);
  CHECK(counts.n >= active - std::min(active, 4ull));
  CHECK(counts.n <= active + 4);
  chunk.reset();
  const Encoded again = encoded(chunk);
  CHECK(again.n == got.n);
  CHECK(again.r == got.r);
}

void check(const KernelModel& model, const std::vector<CaseSegment>& segments) {
  for (const cuda::Mma mma : mmas()) check_mma(model, segments, mma);
}

}  // namespace

TEST_CASE("CUDA encode prefill: float64's numbers in every dtype, ragged, the same bits twice") {
  for (const DType dtype : kWeights) {
    CAPTURE(name_of(dtype));
    check(KernelModel(untied(config_of(2, 20, 5, 7, 33)), dtype),
          {{5, 0, false}, {1, 9, true}, {67, 3, true}});
    check(KernelModel(untied(config_of(2, 72, 2, 2, 33)), dtype, DType::bf16),
          {{3, 0, true}, {130, 100000, true}});
  }
}

TEST_CASE("CUDA rotation: phases as the reference rounds them, at positions to 2^31") {
  const KernelModel model(untied(config_of(2, 64, 1, unless_slow(32, 4), 33)), DType::f32);
  check(model, {{2, 0, true},
                {unless_slow(200, 9), 4090, true},
                {unless_slow(200, 9), 65530, true},
                {unless_slow(200, 9), 99995, true},
                {9, 1000003, true},
                {9, 16777213, true},
                {9, 2147483638, true}});
}
