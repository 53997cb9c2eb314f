// The ends of the model on the CPU: embedding, residual, logits.
#include "kernels/cpu/embedding.h"

#include <algorithm>

#include "bdh/base/dtype.h"

namespace bdh::cpu {

namespace {

// A block of logits: enough columns to be worth a thread's attention.
constexpr int64_t kRowBlock = 64, kColumnBlock = 512;

void project_block(const Kernels& kernels, const PackedParameters& packed, const float* x, int64_t rows,
                   int64_t row, int64_t column, float* logits) {
  const int64_t vocab = packed.dims.vocab;
  const auto* head = static_cast<const std::byte*>(packed.lm_head.data) +
                     static_cast<size_t>(column) * size_of(packed.dtype);
  kernels.multiply({std::min(kRowBlock, rows - row),
                    std::min(kColumnBlock, vocab - column),
                    packed.dims.width,
                    x + row * packed.stride,
                    packed.stride,
                    1,
                    {head, packed.dtype, packed.lm_head.stride},
                    logits + row * vocab + column,
                    vocab,
                    false});
}

}  // namespace

void embed_token(const Kernels& kernels, const PackedParameters& packed, int32_t token, float* x) {
  const int64_t width = packed.dims.width;
  const auto* row = static_cast<const std::byte*>(packed.embed.data) +
                    static_cast<size_t>(token * width) * size_of(packed.dtype);
  convert(packed.dtype, row, DType::f32, x, static_cast<size_t>(width));
  std::fill(x + width, x + packed.stride, 0.0f);
  kernels.norm(x, width, packed.stride, x);
}

void add_and_norm(const Kernels& kernels, const PackedParameters& packed, float* mixed, float* x) {
  kernels.norm(mixed, packed.dims.width, packed.stride, mixed);
  for (int64_t d = 0; d < packed.stride; ++d) x[d] += mixed[d];
  kernels.norm(x, packed.dims.width, packed.stride, x);
}

void project_logits(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool, const float* x,
                    int64_t rows, float* logits) {
  const int64_t columns = (packed.dims.vocab + kColumnBlock - 1) / kColumnBlock;
  const int64_t blocks = (rows + kRowBlock - 1) / kRowBlock * columns;
  pool.run(blocks, [&](int64_t i, int) {
    project_block(kernels, packed, x, rows, i / columns * kRowBlock, i % columns * kColumnBlock, logits);
  });
}

}  // namespace bdh::cpu
