// Embedding and loss, by blocks of rows and of the vocabulary.
#include "kernels/cpu/training/loss.h"

#include <cmath>

#include "kernels/cpu/packed.h"

namespace bdh::cpu {

namespace {

constexpr int64_t kMostLogits = int64_t{4} << 20;  // that are in memory at once
constexpr int64_t kColumnBlock = 256;

struct Logits {
  int64_t first, count;  // rows
  float* values;         // (count, stride)
  int64_t stride;
};

const float* rounded(const Pass& p, const float* x, int64_t rows) {
  if (p.options.precision == DType::f32) return x;
  p.training.round(x, rows * p.stride, p.options.precision, p.x_rounded);
  return p.x_rounded;
}

void project(const Pass& p, const Logits& logits, const float* x) {
  const PlanePart& head = p.layout.lm_head();
  p.pool.run((logits.count + kBlockRows - 1) / kBlockRows, [&](int64_t i, int) {
    const int64_t begin = i * kBlockRows;
    p.kernels.multiply({std::min(kBlockRows, logits.count - begin), logits.stride, p.dims.width,
                        x + begin * p.stride, p.stride, 1, plain(p.parameters + head.offset, head.stride),
                        logits.values + begin * logits.stride, logits.stride, false});
    p.round(logits.values + begin * logits.stride,
            std::min(kBlockRows, logits.count - begin) * logits.stride);
  });
}

void take_loss(const Pass& p, const Logits& logits) {
  p.pool.run(logits.count, [&](int64_t i, int) {
    float* row = logits.values + i * logits.stride;
    const int32_t target = p.batch.targets[static_cast<size_t>(logits.first + i)];
    double& loss = p.scratch.losses[static_cast<size_t>(logits.first + i)];
    loss = 0;
    if (target < 0) {
      std::fill(row, row + logits.stride, 0.0f);
      return;
    }
    loss = p.training.softmax_gradient(row, p.dims.vocab, target, p.batch.loss_scale);
    std::fill(row + p.dims.vocab, row + logits.stride, 0.0f);
  });
}

// lm_head (V, stride), for dx = dlogits lm_head^T.
const float* transposed_head(const Pass& p) {
  const PlanePart& head = p.layout.lm_head();
  float* to = p.scratch.head_columns.at_least(head.stride * p.stride);
  p.pool.run(p.dims.vocab, [&](int64_t v, int) {
    float* row = to + v * p.stride;
    for (int64_t d = 0; d < p.dims.width; ++d) row[d] = p.parameters[head.offset + d * head.stride + v];
    std::fill(row + p.dims.width, row + p.stride, 0.0f);
  });
  return to;
}

void head_gradients(const Pass& p, const Logits& logits, const float* x, const float* head_rows) {
  const PlanePart& head = p.layout.lm_head();
  p.pool.run((logits.count + kBlockRows - 1) / kBlockRows, [&](int64_t i, int) {
    const int64_t begin = i * kBlockRows;
    p.kernels.multiply({std::min(kBlockRows, logits.count - begin), p.stride, p.dims.vocab,
                        logits.values + begin * logits.stride, logits.stride, 1, plain(head_rows, p.stride),
                        p.dx + (logits.first + begin) * p.stride, p.stride, false});
  });
  p.pool.run((head.stride + kColumnBlock - 1) / kColumnBlock, [&](int64_t i, int) {
    const int64_t column = i * kColumnBlock;
    p.kernels.multiply({p.dims.width, std::min(kColumnBlock, head.stride - column), logits.count, x, 1,
                        p.stride, plain(logits.values + column, logits.stride),
                        p.gradient + head.offset + column, head.stride, true});
  });
}

}  // namespace

void embed_tokens(const Pass& p) {
  const PlanePart& embed = p.layout.embed();
  p.pool.run(p.rows, [&](int64_t row, int) {
    const float* from = p.parameters + embed.offset + p.batch.inputs[static_cast<size_t>(row)] * embed.stride;
    float mean = 0, scale = 0;
    p.training.norm_row(from, p.dims.width, p.stride, p.x + row * p.stride, &mean, &scale);
  });
}

void embedding_gradient(const Pass& p) {
  const PlanePart& embed = p.layout.embed();
  p.pool.run(p.rows, [&](int64_t row, int) {
    const float* from = p.parameters + embed.offset + p.batch.inputs[static_cast<size_t>(row)] * embed.stride;
    float *x = p.x + row * p.stride, *dx = p.dx + row * p.stride;
    float mean = 0, scale = 0;
    p.training.norm_row(from, p.dims.width, p.stride, x, &mean, &scale);
    p.training.norm_gradient(x, scale, dx, p.dims.width, p.stride, dx);
  });
  for (int64_t row = 0; row < p.rows; ++row) {
    float* to = p.gradient + embed.offset + p.batch.inputs[static_cast<size_t>(row)] * embed.stride;
    const float* dx = p.dx + row * p.stride;
    for (int64_t d = 0; d < p.dims.width; ++d) to[d] += dx[d];
  }
}

LossSum head_loss(const Pass& p) {
  p.scratch.losses.resize(static_cast<size_t>(p.rows));
  const int64_t stride = p.layout.lm_head().stride;
  const int64_t at_once = std::min(p.plan.most_rows, std::max(kBlockRows, kMostLogits / stride));
  const float* head_rows = p.gradient ? transposed_head(p) : nullptr;
  const float* x = p.x_of(p.dims.layers);
  for (int64_t first = 0; first < p.rows; first += at_once) {
    const Logits logits{first, std::min(at_once, p.rows - first), p.scratch.logits.at_least(at_once * stride),
                        stride};
    const float* rows = rounded(p, x + first * p.stride, logits.count);
    project(p, logits, rows);
    take_loss(p, logits);
    if (p.gradient) head_gradients(p, logits, rows, head_rows);
  }
  LossSum sum;
  for (int64_t row = 0; row < p.rows; ++row) {
    sum.nats += p.scratch.losses[static_cast<size_t>(row)];
    sum.tokens += p.batch.targets[static_cast<size_t>(row)] >= 0;
  }
  return sum;
}

}  // namespace bdh::cpu
