// The model's ends against float64: norm(embed[token]) for decode and prefill, and logits of chosen rows.
#include "kernels/cuda/embedding.h"

#include <doctest/doctest.h>

#include "kernels/cuda/logits.h"
#include "tests/kernels/cuda/cases.h"

using namespace bdh;
using namespace bdh::test;

namespace {

constexpr double kTolerance = 1e-5;

Numbers embedded(const KernelModel& model, int32_t token) {
  const auto begin = model.embed.begin() + token * model.dims.width;
  return norm({begin, begin + model.dims.width});
}

// Rows (count, stride) of which the columns from `width` on must be zero, for products read them.
Numbers whole_rows(const KernelModel& model, const void* from, int64_t count, DType dtype = DType::f32) {
  const cuda::Sizes sizes = model.sizes();
  const Numbers rows = download(from, count * sizes.stride, dtype);
  Numbers out = unpadded(rows, sizes.width, sizes.stride);
  CHECK(rows == padded(out, sizes.width, sizes.stride));
  return out;
}

void check_decode(const KernelModel& model) {
  DecodeCase decode(model, {0, 5, 100000});
  poison(decode.buffers.x, static_cast<size_t>(3 * model.sizes().stride) * sizeof(float));
  cuda::embed_decode(model.packed(), decode.buffers, decode.stream.get());
  Numbers want;
  for (const cuda::Sequence& sequence : decode.sequences) {
    const Numbers row = embedded(model, sequence.token);
    want.insert(want.end(), row.begin(), row.end());
  }
  CHECK(worst(whole_rows(model, decode.buffers.x, 3), want) <= kTolerance);
}

void check_prefill(const KernelModel& model) {
  PrefillCase chunk(model, {{3, 0, false}, {66, 9, true}}, cuda::Mma::warp);
  const cuda::PrefillBuffers& buffers = chunk.buffers;
  poison(chunk.memory.as<void>(), chunk.memory.bytes());
  cuda::embed_prefill(model.packed(), buffers, chunk.stream.get());
  const Numbers x = whole_rows(model, buffers.x, buffers.rows);
  Numbers want;
  for (const cuda::PrefillRow& own : chunk.plan.rows) {
    const Numbers row = embedded(model, own.token);
    want.insert(want.end(), row.begin(), row.end());
  }
  CHECK(worst(x, want) <= kTolerance);
  CHECK(whole_rows(model, buffers.x_operand, buffers.rows, buffers.activations) ==
        rounded(x, buffers.activations));
}

void check_logits(const KernelModel& model) {
  const int64_t width = model.dims.width, vocab = model.dims.vocab;
  const cuda::Sizes sizes = model.sizes();
  const Numbers x = random_numbers(5 * width, 51, 1.7);
  const cuda::DeviceMemory there = uploaded(padded(x, width, sizes.stride));
  const std::vector<int32_t> rows = {4, 0, 2};
  const cuda::DeviceMemory chosen(rows.size() * sizeof(int32_t), "a test");
  upload_bytes(chosen.as<void>(), rows.data(), rows.size() * sizeof(int32_t));
  const cuda::DeviceMemory logits = poisoned(static_cast<size_t>(5 * vocab) * sizeof(float));
  const cuda::Stream stream;
  const auto want = [&](const std::vector<int32_t>& of) {
    Numbers out;
    for (const int32_t row : of) {
      for (int64_t v = 0; v < vocab; ++v) {
        double sum = 0;
        for (int64_t d = 0; d < width; ++d)
          sum += x[static_cast<size_t>(row * width + d)] * model.lm_head[static_cast<size_t>(d * vocab + v)];
        out.push_back(sum);
      }
    }
    return out;
  };
  cuda::project_logits(model.packed(), there.as<float>(), chosen.as<int32_t>(), 3, logits.as<float>(),
                       stream.get());
  CHECK(worst(download(logits.as<void>(), 3 * vocab), want(rows)) <= kTolerance);
  cuda::project_logits(model.packed(), there.as<float>(), nullptr, 5, logits.as<float>(), stream.get());
  CHECK(worst(download(logits.as<void>(), 5 * vocab), want({0, 1, 2, 3, 4})) <= kTolerance);
}

}  // namespace

TEST_CASE("CUDA embedding and logits: float64's numbers in every dtype and odd sizes") {
  for (const DType dtype : kWeights) {
    CAPTURE(name_of(dtype));
    for (const Config& config : {config_of(1, 7, 1, 2, 5), config_of(1, 20, 5, 7, 33),
                                 config_of(1, 264, 1, 1, 257), config_of(1, 72, 1, 1, 64)}) {
      const KernelModel model(config, dtype);
      check_decode(model);
      check_prefill(model);
      check_logits(model);
    }
  }
}
