// Packing: every weight on the GPU is the CPU's rounding of it, at its place, and the padding is zero.
#include "kernels/cuda/packed.h"

#include <doctest/doctest.h>

#include "tests/kernels/cuda/reference.h"
#include "tests/support/backends.h"

using namespace bdh;
using namespace bdh::test;

namespace {

// (H, D, N) as (H*N, D).
Numbers neuron_major(const KernelModel& model, const Numbers& from) {
  const auto [layers, width, heads, neurons, vocab, sets] = model.dims;
  Numbers out(from.size());
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t d = 0; d < width; ++d) {
      for (int64_t j = 0; j < neurons; ++j)
        out[static_cast<size_t>((h * neurons + j) * width + d)] =
            from[static_cast<size_t>((h * width + d) * neurons + j)];
    }
  }
  return out;
}

void check(const Config& config, DType dtype) {
  const KernelModel model(config, dtype);
  const cuda::PackedParameters& packed = model.packed();
  const cuda::Sizes sizes = model.sizes();
  const auto is = [&](const cuda::DeviceMemory& memory, const Numbers& want, int64_t width, int64_t stride) {
    const auto count = static_cast<int64_t>(memory.bytes() / size_of(dtype));
    CHECK(download(memory.as<void>(), count, dtype) == padded(want, width, stride));
  };
  REQUIRE(packed.layers.size() == static_cast<size_t>(config.sets()));
  for (size_t i = 0; i < packed.layers.size(); ++i) {
    const LayerNumbers& want = model.layers[i];
    is(packed.layers[i].encoder, neuron_major(model, want.encoder), sizes.width, sizes.stride);
    is(packed.layers[i].encoder_v, neuron_major(model, want.encoder_v), sizes.width, sizes.stride);
    is(packed.layers[i].decoder, want.decoder, sizes.width, sizes.stride);
  }
  is(packed.embed, model.embed, sizes.width, sizes.stride);
  is(packed.lm_head, model.lm_head, sizes.vocab, sizes.vocab);
  CHECK(download(packed.freqs.as<void>(), sizes.neurons) == Numbers(model.freqs.begin(), model.freqs.end()));
  CHECK(packed.bytes == cuda::packed_bytes(model.dims, dtype));
}

}  // namespace

TEST_CASE("CUDA packing: the CPU's rounding of every weight, neuron-major, padded with zeros") {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
    CAPTURE(name_of(dtype));
    check(config_of(1, 7, 1, 2, 5), dtype);
    check(config_of(1, 20, 5, 7, 33), dtype);
    check(config_of(2, 66, 3, 5, 300), dtype);
    check(untied(config_of(3, 20, 5, 7, 33)), dtype);
    if (!kEmulated) check(config_of(1, 20, 1, 24000, 500), dtype);  // N 480,000: a slab holds a part of D
  }
}
