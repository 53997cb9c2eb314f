// gate_prefill against float64: g, the layer's output and counts, for any density and every dtype.
#include "kernels/cuda/gate_prefill.h"

#include <doctest/doctest.h>

#include "tests/kernels/cuda/cases.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr int kLayer = 1;

struct Gated {
  Numbers g, x, operand;
  bool operator==(const Gated&) const = default;
};

Gated run(PrefillCase& chunk, const Numbers& n, const Numbers& attended) {
  const cuda::Sizes sizes = chunk.model.sizes();
  const cuda::PrefillBuffers& buffers = chunk.buffers;
  const DType type = buffers.activations;
  chunk.reset();
  upload(buffers.n, with_columns(chunk.model, n, buffers.columns), type);
  upload(buffers.attended, padded(attended, sizes.width, sizes.stride), type);
  cuda::gate_prefill(chunk.model.packed(), buffers, kLayer, chunk.stream.get());
  const int64_t x_count = int64_t{buffers.rows} * sizes.stride;
  return {without_columns(chunk.model,
                          download(buffers.n, int64_t{buffers.rows} * sizes.heads * buffers.columns, type),
                          buffers.columns),
          unpadded(download(buffers.x, x_count), sizes.width, sizes.stride),
          unpadded(download(buffers.x_operand, x_count, type), sizes.width, sizes.stride)};
}

void check_mma(const KernelModel& model, int32_t rows, double density, cuda::Mma mma) {
  PrefillCase chunk(model, {{rows, 0, false}}, mma);
  const auto [layers, width, heads, neurons, vocab, sets] = model.dims;
  const DType type = chunk.buffers.activations;
  const Numbers n = rounded(random_activity(rows * heads * neurons, 41, density), type);
  const Numbers attended = rounded(random_numbers(heads * rows * width, 42, 1.7), type);
  const Gated got = run(chunk, n, attended);
  Numbers want_g, want_x;
  unsigned long long positive = 0, gated = 0;
  for (int64_t row = 0; row < rows; ++row) {
    Numbers own;
    for (int64_t h = 0; h < heads; ++h) {
      const auto from = attended.begin() + (h * rows + row) * width;
      own.insert(own.end(), from, from + width);
    }
    Numbers g = gate_values(model, kLayer, own);
    for (size_t j = 0; j < g.size(); ++j) {
      positive += g[j] > 0;
      g[j] *= n[static_cast<size_t>(row) * g.size() + j];
      gated += g[j] != 0;
    }
    const Numbers x(chunk.x.begin() + row * width, chunk.x.begin() + (row + 1) * width);
    const Numbers out = residual(x, mix(model, kLayer, g));
    want_g.insert(want_g.end(), g.begin(), g.end());
    want_x.insert(want_x.end(), out.begin(), out.end());
  }
  CHECK(worst(got.g, want_g) <= tolerance_of(type));
  CHECK(worst(got.x, want_x) <= 2 * tolerance_of(type));
  CHECK(got.operand == rounded(got.x, type));
  cuda::PrefillCounts counts{};
  download_bytes(&counts, chunk.buffers.counts + kLayer, sizeof counts);
  CHECK(std::abs(static_cast<double>(counts.v) - static_cast<double>(positive)) <= 4);
  CHECK(std::abs(static_cast<double>(counts.g) - static_cast<double>(gated)) <= 4);
  CHECK(run(chunk, n, attended) == got);
}

void check(const KernelModel& model, int32_t rows, double density) {
  for (const cuda::Mma mma : mmas()) check_mma(model, rows, density, mma);
}

}  // namespace

TEST_CASE("CUDA gate prefill: float64's numbers in every dtype, the same bits twice") {
  for (const DType dtype : kWeights) {
    CAPTURE(name_of(dtype));
    check(KernelModel(untied(config_of(2, 20, 5, 7, 33)), dtype), 67, 0.5);
    check(KernelModel(untied(config_of(2, 20, 5, 7, 33)), dtype), 1, 0.05);
    check(KernelModel(untied(config_of(2, 72, 2, 2, 33)), dtype, DType::bf16), 131, 0.3);
    check(KernelModel(untied(config_of(2, 72, 2, 2, 33)), dtype, DType::bf16), 2, 1.0);
  }
}
