// The table of CPU kernels that training adds, for one instruction set. As kernels/cpu/kernels.h: plain
// pointers and counts, every sum in an order that the arguments alone decide, and no inline code.
#pragma once

#include <cstdint>

#include "bdh/base/dtype.h"
#include "kernels/cpu/kernels.h"
#include "kernels/training_numbers.h"

namespace bdh::cpu {

/// A matrix whose rows are neurons and whose columns are tokens, of which many are zero; and float32 rows of
/// `width` elements, one for each token.
struct SparseProduct {
  int64_t neurons, tokens, width;
  const float* sparse;  // (neurons, tokens)
  int64_t stride;
  const float* rows;
  int64_t rows_stride;
  float* out;
  int64_t out_stride;
};

/// Of a block of neurons.
struct Dropout {
  DropoutNumbers numbers;
  uint32_t layer;
  const uint32_t* token;     // of each column
  const uint32_t* sequence;  // of each column
};

struct TrainingKernels {
  const char* name;

  /// Of angles in [0, 2 pi]; count is a multiple of kPadding, and so is every number of tokens below.
  void (*sine_cosine)(const float* angles, int64_t count, float* cosines, float* sines);

  /// n = max(0, n), r = n rotated: rows are neurons, 2i and 2i + 1 a pair. The tables have n's shape and a
  /// stride of their own. precision: n, both products and their sum are rounded to it.
  void (*rotate_rows)(float* n, int64_t neurons, int64_t tokens, int64_t stride, const float* cosines,
                      const float* sines, int64_t table_stride, DType precision, float* r);
  /// dn = (dn + dr rotated back) where n > 0, else 0.
  void (*unrotate_rows)(const float* dr, int64_t dr_stride, const float* n, int64_t neurons, int64_t tokens,
                        int64_t stride, const float* cosines, const float* sines, int64_t table_stride,
                        float* dn);

  /// out = norm(x); the mean and 1 / sqrt(variance + 1e-5) that it took.
  void (*norm_row)(const float* x, int64_t width, int64_t padded, float* out, float* mean, float* scale);
  /// dx = the gradient of norm: y its output, scale as above. dx may be dy.
  void (*norm_gradient)(const float* y, float scale, const float* dy, int64_t width, int64_t padded,
                        float* dx);

  /// v = max(0, v), dropped out where `dropout` is given; first: the block's first neuron within its head,
  /// of which `counter` is the first counter.
  void (*relu_dropout)(float* v, int64_t neurons, int64_t tokens, int64_t stride, const Dropout* dropout,
                       uint32_t counter);
  /// g = n * v, elements that are not zero counted.
  int64_t (*gate_rows)(const float* n, const float* v, int64_t neurons, int64_t tokens, int64_t stride,
                       int64_t v_stride, float* g, int64_t g_stride);
  /// v (as relu_dropout left it), dg: dv = dg * n * scale and dn = dg * v where n * v is not zero, else 0.
  /// dn and n have `stride`; v, dg and dv have v_stride, dv may be dg.
  void (*gate_gradient)(const float* n, const float* v, const float* dg, float scale, int64_t neurons,
                        int64_t tokens, int64_t stride, int64_t v_stride, float* dn, float* dv,
                        int64_t dv_stride);

  /// out (neurons, tokens) = dot(a's row of the neuron, rows' row of the token) where sparse is not zero,
  /// else 0; a has rows_stride.
  void (*sample)(const SparseProduct& product, const float* a);

  /// The loss of one row of logits, and their gradient in their place: (softmax - one(target)) * scale.
  double (*softmax_gradient)(float* logits, int64_t vocab, int64_t target, float scale);

  void (*adamw)(const AdamWNumbers& step, int64_t count, const float* gradient, float* parameters,
                float* exp_avg, float* exp_avg_sq);
  void (*add)(float* to, const float* from, int64_t count);
  /// to = decay * to + rest * from.
  void (*blend)(float* to, const float* from, float decay, float rest, int64_t count);
  double (*squared_sum)(const float* values, int64_t count);
  /// Rounds to bf16 or f16, to nearest even, as float32.
  void (*round)(const float* from, int64_t count, DType dtype, float* to);
};

/// What training adds to a table.
const TrainingKernels& training_kernels_of(const Kernels& kernels);

}  // namespace bdh::cpu
