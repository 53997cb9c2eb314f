// Where the products of training find their operands, and which tile a block has. Device code.
#pragma once

#include "kernels/cuda/dispatch.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/training/pass.h"

namespace bdh::cuda {

/// Consecutive rows of a group: a segment's, or all.
struct Rows {
  int first, count;
};

__device__ inline Rows all_rows(const TrainingPass& p) { return {0, p.rows}; }
__device__ inline Rows segment_rows(const TrainingPass& p, int segment) {
  return {segment * p.length, p.length};
}

/// Of an array (rows, heads, columns): rows of one head.
template <class Element>
__device__ inline Matrix<Element> activations_of(const TrainingPass& p, const void* array, Rows rows,
                                                 int head) {
  return {static_cast<const Element*>(array) + (int64_t{rows.first} * p.heads + head) * p.columns,
          int64_t{p.heads} * p.columns, rows.count, p.columns};
}

/// Of an array (rows, stride).
template <class Element>
__device__ inline Matrix<Element> rows_of(const TrainingPass& p, const void* array, Rows rows) {
  return {static_cast<const Element*>(array) + int64_t{rows.first} * p.sizes.stride, p.sizes.stride,
          rows.count, p.sizes.stride};
}

/// Of an array (heads, rows, stride).
template <class Element>
__device__ inline Matrix<Element> head_rows_of(const TrainingPass& p, const void* array, Rows rows,
                                               int head) {
  return {static_cast<const Element*>(array) + (int64_t{head} * p.rows + rows.first) * p.sizes.stride,
          p.sizes.stride, rows.count, p.sizes.stride};
}

/// Of da_set: the group's rows of a segment.
template <class Element>
__device__ inline Matrix<Element> set_rows_of(const TrainingPass& p, int segment, int head) {
  const int64_t row = (int64_t{head} * p.segments + segment) * p.tokens + p.start;
  return {static_cast<const Element*>(p.da_set) + row * p.sizes.stride, p.sizes.stride, p.length,
          p.sizes.stride};
}

/// Of an array (heads, rows, keys): a segment's square.
template <class Element>
__device__ inline Matrix<Element> square_of(const TrainingPass& p, const void* array, int segment, int head) {
  return {static_cast<const Element*>(array) + (int64_t{head} * p.rows + segment * p.length) * p.keys, p.keys,
          p.length, p.keys};
}

/// A head's rows (N, stride) of E, Ev or the decoder: `offset` in a plane.
template <class Element>
__device__ inline Matrix<Element> neurons_of(const TrainingPass& p, int64_t offset, int head) {
  const int64_t row = int64_t{p.first_head + head} * p.sizes.neurons;
  return {static_cast<const Element*>(p.parameters) + offset + row * p.sizes.stride, p.sizes.stride,
          p.sizes.neurons, p.sizes.stride};
}

/// (N, stride) of S or dS.
__device__ inline Matrix<float> state_of(const TrainingPass& p, const float* state, int segment, int head) {
  return {state + p.state_at(segment, head), p.sizes.stride, p.sizes.neurons, p.sizes.stride};
}

/// Where (row, head, neuron) stands in an array (rows, heads, columns).
__device__ inline int64_t activation_at(const TrainingPass& p, int row, int head, int neuron) {
  return (int64_t{row} * p.heads + head) * p.columns + neuron;
}

/// The tile of rows that blockIdx.y stands for, where every segment has tiles of its own.
struct SegmentTile {
  int segment, m0;

  __device__ SegmentTile(const TrainingPass& p, int tile_rows) {
    const int of_segment = (p.length + tile_rows - 1) / tile_rows;
    segment = blockIdx.y / of_segment;
    m0 = blockIdx.y % of_segment * tile_rows;
  }
};
inline unsigned segment_tiles(const TrainingPass& p, int tile_rows) {
  return static_cast<unsigned>(p.segments) * tiles(p.length, tile_rows);
}

/// One of `splits` parts of [0, count), in whole tiles of `depth`.
struct Share {
  int begin, end;

  __device__ Share(int count, int splits, int split, int depth) {
    const int each = static_cast<int>(rounded_up(tiles(count, splits), depth));
    begin = min(split * each, count);
    end = min(begin + each, count);
  }
};

/// A sum as it is where operands are made of it, past the largest half in float32's range: logits and a may
/// be that large.
template <class Element>
__device__ inline float rounded(float value) {
  return to_float(from_float<Element>(value));
}
template <>
__device__ inline float rounded<__half>(float value) {
  if (!(fabsf(value) >= 65504.0f)) return to_float(from_float<__half>(value));
  const unsigned bits = __float_as_uint(value);
  return isinf(value) ? value : __uint_as_float((bits + 0xfff + ((bits >> 13) & 1)) & 0xffffe000);
}

/// function(Element{}, integral_constant<Mma, mma>) for the products.
template <class Function>
void with_operands(const TrainingPass& p, Function&& function) {
  with_element(p.precision, [&](auto element) {
    choose_mma<decltype(element)>(p.mma, [&](auto mma) { function(element, mma); });
  });
}

}  // namespace bdh::cuda
