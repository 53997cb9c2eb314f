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
  const auto is = [&](const cuda::PackedMatrix& matrix, const Numbers& want, int64_t width, int64_t stride) {
    const auto count = static_cast<int64_t>(matrix.values.bytes() / size_of(dtype));
    CHECK(download(matrix.values.as<void>(), count, dtype) == padded(want, width, stride));
    CHECK(matrix.scales.bytes() == 0);
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

// A matrix of rows as cuda::EightBits and cuda::FourBits say that they lie, padding included.
Numbers quantized_rows(const cuda::PackedMatrix& matrix, const cuda::Sizes& sizes, int64_t count, bool four) {
  const int64_t width = four ? (sizes.width + 31) / 32 : 1;
  std::vector<uint8_t> bytes(matrix.values.bytes());
  download_bytes(bytes.data(), matrix.values.as<void>(), bytes.size());
  const Numbers scales = download(matrix.scales.as<void>(), count * width, DType::f16);
  Numbers rows;
  for (int64_t i = 0; i < count * sizes.stride; ++i) {
    const int64_t row = i / sizes.stride, column = i % sizes.stride;
    const auto byte = static_cast<size_t>(four ? i / 8 * 4 + i % 4 : i);
    const int number = !four       ? static_cast<int8_t>(bytes[byte])
                       : i % 8 < 4 ? (bytes[byte] & 15) - 8
                                   : (bytes[byte] >> 4) - 8;
    rows.push_back(number * scales[static_cast<size_t>(row * width + (four ? column / 32 : 0))]);
  }
  return rows;
}

// (D, V) as (V, D).
Numbers transposed(const Numbers& from, int64_t height, int64_t width) {
  Numbers out(from.size());
  for (int64_t d = 0; d < height; ++d) {
    for (int64_t v = 0; v < width; ++v)
      out[static_cast<size_t>(v * height + d)] = from[static_cast<size_t>(d * width + v)];
  }
  return out;
}

void check_quantized(const Config& config, DType dtype) {
  const KernelModel model(config, dtype);
  const cuda::PackedParameters& packed = model.packed();
  const cuda::Sizes sizes = model.sizes();
  const auto is = [&](const cuda::PackedMatrix& matrix, const Numbers& want, int64_t count) {
    CHECK(quantized_rows(matrix, sizes, count, dtype == DType::u8) ==
          padded(want, sizes.width, sizes.stride));
  };
  for (size_t i = 0; i < packed.layers.size(); ++i) {
    is(packed.layers[i].encoder, neuron_major(model, model.layers[i].encoder), sizes.rows());
    is(packed.layers[i].encoder_v, neuron_major(model, model.layers[i].encoder_v), sizes.rows());
    is(packed.layers[i].decoder, model.layers[i].decoder, sizes.rows());
  }
  is(packed.embed, model.embed, sizes.vocab);
  is(packed.lm_head, transposed(model.lm_head, sizes.width, sizes.vocab), sizes.vocab);
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
    if (!kSlow) check(config_of(1, 20, 1, 24000, 500), dtype);  // N 480,000: a slab holds a part of D
  }
}

TEST_CASE("CUDA packing: quantized weights as they stand for, 4 bits regrouped, padded with zeros") {
  for (const DType dtype : {DType::i8, DType::u8}) {
    CAPTURE(name_of(dtype));
    check_quantized(config_of(1, 7, 1, 2, 5), dtype);
    check_quantized(config_of(1, 20, 5, 7, 33), dtype);
    check_quantized(config_of(2, 66, 3, 5, 300), dtype);
    check_quantized(untied(config_of(3, 36, 5, 7, 33)), dtype);
  }
}
