// attention_prefill against float64: norm(a) and the new states, with and without a state, ragged, every
// dtype.
#include "kernels/cuda/attention_prefill.h"

#include <doctest/doctest.h>

#include "tests/kernels/cuda/cases.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr double kStateTolerance = 1e-5;  // float32 sums of numbers that are exact in the activations' dtype
constexpr int kLayer = 1;

// What attention makes of a chunk: attended (H, R, D) and every segment's state.
struct Attended {
  Numbers rows;
  std::vector<Numbers> states;
  bool operator==(const Attended&) const = default;
};

Attended run(PrefillCase& chunk, const Numbers& r) {
  const cuda::Sizes sizes = chunk.model.sizes();
  const cuda::PrefillBuffers& buffers = chunk.buffers;
  chunk.reset();
  upload(buffers.r, with_columns(chunk.model, r, buffers.columns), buffers.activations);
  cuda::attention_prefill(chunk.model.packed(), buffers, kLayer, chunk.stream.get());
  const int64_t count = int64_t{sizes.heads} * buffers.rows * sizes.stride;
  Attended out{unpadded(download(buffers.attended, count, buffers.activations), sizes.width, sizes.stride),
               {}};
  for (const CaseState& state : chunk.states) out.states.push_back(state.now(chunk.model));
  return out;
}

// One head of one segment: rows of `attended`, and `s` becomes the new state.
void attend(const KernelModel& model, const cuda::PrefillSegment& segment, int64_t head, const Numbers& r,
            const Numbers& x, double* s, double* attended) {
  const int64_t width = model.dims.width, heads = model.dims.heads, neurons = model.dims.neurons;
  const auto row_of_r = [&](int64_t row) {
    return r.data() + ((segment.first + row) * heads + head) * neurons;
  };
  const auto row_of_x = [&](int64_t row) { return x.data() + (segment.first + row) * width; };
  for (int64_t t = 0; t < segment.count; ++t) {
    Numbers a(static_cast<size_t>(width));
    for (int64_t j = 0; segment.reads_state && j < neurons; ++j) {
      for (int64_t d = 0; d < width; ++d) a[static_cast<size_t>(d)] += row_of_r(t)[j] * s[j * width + d];
    }
    for (int64_t u = 0; u < t; ++u) {
      double score = 0;
      for (int64_t j = 0; j < neurons; ++j) score += row_of_r(t)[j] * row_of_r(u)[j];
      for (int64_t d = 0; d < width; ++d) a[static_cast<size_t>(d)] += score * row_of_x(u)[d];
    }
    const Numbers row = norm(a);
    std::copy(row.begin(), row.end(), attended + t * width);
  }
  for (int64_t t = 0; segment.s && t < segment.count; ++t) {
    for (int64_t j = 0; j < neurons; ++j) {
      for (int64_t d = 0; d < width; ++d) s[j * width + d] += row_of_r(t)[j] * row_of_x(t)[d];
    }
  }
}

void check_mma(const KernelModel& model, const std::vector<CaseSegment>& segments, cuda::Mma mma) {
  PrefillCase chunk(model, segments, mma);
  const auto [layers, width, heads, neurons, vocab, sets] = model.dims;
  const auto rows = static_cast<int64_t>(chunk.plan.rows.size());
  const Numbers r = rounded(random_numbers(rows * heads * neurons, 31, 0.3), chunk.buffers.activations);
  const Attended got = run(chunk, r);
  Attended want{Numbers(static_cast<size_t>(heads * rows * width)), {}};
  for (size_t i = 0; i < segments.size(); ++i) {
    const cuda::PrefillSegment& segment = chunk.plan.segments[i];
    want.states.push_back(chunk.states[i].before);
    for (int64_t h = 0; h < heads; ++h) {
      attend(model, segment, h, r, chunk.x, want.states[i].data() + (kLayer * heads + h) * neurons * width,
             want.rows.data() + (h * rows + segment.first) * width);
    }
    CHECK(worst(got.states[i], want.states[i]) <= kStateTolerance);
  }
  CHECK(worst(got.rows, want.rows) <= 2 * tolerance_of(chunk.buffers.activations));
  CHECK(run(chunk, r) == got);
}

void check(const KernelModel& model, const std::vector<CaseSegment>& segments) {
  for (const cuda::Mma mma : mmas()) check_mma(model, segments, mma);
}

}  // namespace

TEST_CASE("CUDA attention prefill: float64's numbers in every dtype, ragged, the same bits twice") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    CAPTURE(name_of(dtype));
    check(KernelModel(config_of(2, 20, 5, 7, 33), dtype),
          {{1, 0, false}, {67, 0, true}, {2, 5, true}, {1, 100000, true}, {9, 0, false}});
    check(KernelModel(config_of(2, 72, 2, 2, 33), dtype),
          {{130, 7, true}, {3, 0, false}, {1, 0, true}, {17, 40, true}});
  }
}
