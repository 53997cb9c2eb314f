// Logits on the CPU, in blocks that threads share.
#include "kernels/cpu/logits.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/adapters.h"

namespace bdh::cpu {

namespace {

// A block of logits: enough columns to be worth a thread's attention.
constexpr int64_t kRowBlock = 64, kColumnBlock = 512;

// A row of logits at a time: lm_head is rows of D.
void project_quantized(const Kernels& kernels, const PackedParameters& packed, const float* x, int64_t rows,
                       int64_t row, int64_t column, float* logits) {
  const int64_t vocab = packed.dims.vocab;
  for (int64_t i = row; i < std::min(rows, row + kRowBlock); ++i) {
    kernels.dot_rows(from_row(packed.lm_head, column), nullptr, std::min(kColumnBlock, vocab - column),
                     packed.stride, x + i * packed.stride, logits + i * vocab + column);
  }
}

void project_block(const Kernels& kernels, const PackedParameters& packed, const float* x, int64_t rows,
                   int64_t row, int64_t column, float* logits) {
  if (packed.is_quantized()) return project_quantized(kernels, packed, x, rows, row, column, logits);
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

// The adapter's part of one row.
void add_adapter(const Kernels& kernels, const LowRank& update, const float* x, int64_t vocab,
                 float* logits) {
  std::vector<float> low(static_cast<size_t>(update.rank));
  reduce(kernels, update, 0, x, low.data());
  const int64_t whole = vocab / kPadding * kPadding;
  float rest[kPadding] = {};
  std::copy_n(logits + whole, vocab - whole, rest);
  expand(kernels, update, 0, low.data(), 0, whole, logits);
  if (whole < vocab) expand(kernels, update, 0, low.data(), whole, kPadding, rest);
  std::copy_n(rest, vocab - whole, logits + whole);
}

}  // namespace

void project_logits(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool, const float* x,
                    int64_t rows, float* logits) {
  const int64_t columns = (packed.dims.vocab + kColumnBlock - 1) / kColumnBlock;
  const int64_t blocks = (rows + kRowBlock - 1) / kRowBlock * columns;
  pool.run(blocks, [&](int64_t i, int) {
    project_block(kernels, packed, x, rows, i / columns * kRowBlock, i % columns * kColumnBlock, logits);
  });
}

void adapt_logits(const Kernels& kernels, const PackedParameters& packed, ThreadPool& pool,
                  const Adapter* adapter, const float* x, int64_t rows, float* logits) {
  if (!adapter || adapter->lm_head.rank == 0) return;
  const int64_t vocab = packed.dims.vocab;
  pool.run(rows, [&](int64_t i, int) {
    add_adapter(kernels, adapter->lm_head, x + i * packed.stride, vocab, logits + i * vocab);
  });
}

}  // namespace bdh::cpu
