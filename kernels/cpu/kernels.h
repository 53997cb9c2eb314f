// The table of CPU kernels that one instruction set provides. Plain pointers and counts: no tensors, no
// threads, no allocation. Every kernel sums in an order that its arguments alone decide.
//
// A width is a row's length in elements, always a multiple of kPadding: rows are padded with zeros.
// This header is included by files compiled for instruction sets the processor may lack, so it holds no
// inline code.
#pragma once

#include <cstdint>

#include "bdh/base/dtype.h"
#include "kernels/limits.h"

namespace bdh::cpu {

constexpr int64_t kPadding = 16;           // floats in the widest vector there is
constexpr int64_t kQuantizedPadding = 64;  // numbers
constexpr int64_t kMostNumbersOfX =
    4096;  // of several x, widths rounded up to 2 kPadding, in the first cache
/// Below this share of elements of A that are not zero Kernels::add_sparse is faster than multiply. On
/// AVX-512, in blocks of 128 neurons and 256 tokens, they meet between 0.4 and 0.5 at D 128 and 256, at 0.3
/// at D 512; on AVX2 above 0.5 at all of these.
constexpr double kSparseShare = 0.4;

/// Neuron-major rows: row i starts at data + i * stride elements. Quantized ones are i8 of a whole number of
/// kQuantizedPadding, or u8 of half as many, two numbers in each (bdh/model/quantization.h), and have scales.
struct Rows {
  const void* data;
  DType dtype;                       // f32, bf16 or f16; i8 or u8: quantized
  int64_t stride;                    // in elements
  const uint16_t* scales = nullptr;  // float16: those of row i from scales + i * scale_stride on
  int64_t scale_stride = 0;
};

/// C (m, n) = [C +] A (m, k) B (k, n), float32, B not quantized. A(i, j) is a[i * a_row + j * a_column]; B
/// and C are row-major. Of row i the columns from i + diagonal on are not wanted: what becomes of them is
/// left open.
struct Product {
  int64_t m, n, k;
  const float* a;
  int64_t a_row, a_column;
  Rows b;
  float* c;
  int64_t c_row;
  bool add;
  int64_t diagonal = INT64_MAX / 2;
};

constexpr int64_t kMostPending = 32;

/// Tokens that S does not hold yet, at most kMostPending: token t's r of a tile's neuron i is r[slots[t] *
/// r_stride + i], its x begins at x + slots[t] * x_stride.
struct PendingTokens {
  int64_t count;
  const int32_t* slots;
  const float *r, *x;
  int64_t r_stride, x_stride;
  const float* worth;  // of each, what it counts
  float left;          // what S counts by then
};

/// How far a chunk's neurons are turned: neuron i at column t by 2 pi frac(positions[t] freqs[i]), rounded as
/// float32 at each step, or by angles[i * c_row + t], in [0, 2 pi], where angles is not null. Where two freqs
/// of a pair are equal the first one's angles serve both.
struct Phases {
  const float* freqs;
  const float* positions;
  const float* angles;
};

/// How many n are not zero, and in how many columns a pair has one.
struct Encoded {
  int64_t n, pairs;
};
/// How many v are positive, and how many g are not zero.
struct Gated {
  int64_t v, g;
};

/// A product that dot_pairs makes.
struct DotPair {
  int16_t row, x;
};

struct Kernels {
  const char* name;

  /// out[i] = row(index[i]) . x for i < count; index null: row(i). For quantized rows x is rounded to 16
  /// bits.
  void (*dot_rows)(const Rows& rows, const int32_t* index, int64_t count, int64_t width, const float* x,
                   float* out);

  /// out[k * out_stride + i] = row(i) . x(k) of rows of floats, with the bits of dot_rows; x(k): x + k *
  /// width.
  void (*dot_rows_by_all)(const Rows& rows, int64_t count, int64_t width, const float* x, int64_t x_count,
                          float* out, int64_t out_stride);

  /// out[pair.x * out_stride + pair.row] = row(pair.row) . x(pair.x) of rows of floats for pairs in the order
  /// of their rows, with the bits of dot_rows; x(k): x + k * x_stride. The x have at most kMostNumbersOfX
  /// numbers. Null in a minimal build.
  void (*dot_pairs)(const Rows& rows, const DotPair* pairs, int64_t count, int64_t width, const float* x,
                    int64_t x_stride, int64_t x_count, float* out, int64_t out_stride);

  /// out += sum over i < count of scale[i] * row(index[i]); index null: row(i); scale null: 1.
  void (*accumulate_rows)(const Rows& rows, const int32_t* index, const float* scale, int64_t count,
                          int64_t width, float* out);

  void (*multiply)(const Product& product);
  /// C += A B where few elements of A are not zero: the same bits. B is float32, n a multiple of kPadding,
  /// a_row or a_column 1.
  void (*add_sparse)(const Product& product);

  /// One token: n[i] = max(0, n[i]) and r = n rotated at `position`; freqs in turns per token.
  /// count is even; n and r are padded to a multiple of kPadding.
  void (*rotate)(float* n, const float* freqs, int64_t count, float position, float* r);

  /// The same by angles in [0, 2 pi] that are given.
  void (*rotate_by)(float* n, const float* angles, int64_t count, float* r);

  /// A chunk, neuron-major: n = max(0, product), row i being neuron i and columns tokens, and r = n rotated,
  /// with product.c_row too. m is even, n a multiple of kPadding.
  Encoded (*encode)(const Product& product, const Phases& phases, float* r);
  /// The gate of a chunk: g = n * max(0, product), in the product's place. n is a multiple of kPadding.
  Gated (*gate)(const Product& product, const float* n, int64_t n_stride);

  /// Rows of S, float32 or bfloat16, width apart: s(i) = left s(i) + sum over t of worth[t] r(t, i) x(t), in
  /// float32, and rounded to the nearest then, ties to even. What `left` brings below kSmallest becomes 0.
  void (*flush)(void* s, DType dtype, int64_t neurons, int64_t width, const PendingTokens& pending);

  /// values *= factor; what falls below kSmallest becomes 0, so that nothing decays into denormal numbers.
  void (*decay)(float* values, int64_t count, float factor);

  /// The values that are not zero and their index[i], or i where index is null; returns how many there are.
  /// kept and kept_index, which may be values and index, have room for count, padded.
  int64_t (*compact)(const float* values, const int32_t* index, int64_t count, float* kept,
                     int32_t* kept_index);

  /// Non-zero elements of rows of `tokens` columns.
  int64_t (*count_active)(const float* rows, int64_t stride, int64_t count, int64_t tokens);

  /// out = norm(x) over the first `width` of `padded` elements, the rest zero: (x - mean) / sqrt(variance +
  /// 1e-5).
  void (*norm)(const float* x, int64_t width, int64_t padded, float* out);

  /// Converts count elements (a multiple of kPadding) to float32.
  void (*widen)(const void* from, DType dtype, int64_t count, float* to);
  /// Rounds count floats (a multiple of kPadding) to the nearest bfloat16, ties to even.
  void (*narrow)(const float* from, int64_t count, uint16_t* to);
  /// Quantized rows as float32: to (count, width).
  void (*widen_quantized)(const Rows& rows, int64_t count, int64_t width, float* to);
};

}  // namespace bdh::cpu
