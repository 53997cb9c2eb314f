// Rows of packed weights as kernels read them: floats, or eight quantized numbers at a time with the scale
// that they share. Device code.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/cuda/packed.h"

namespace bdh::cuda {

/// Four numbers, each a byte from 0 to 255, as floats from -zero to 255 - zero: a byte becomes the low bits
/// of 2^23, so that no conversion is needed.
__device__ inline void bytes_to_floats(uint32_t bytes, float zero, float* to) {
  constexpr uint32_t kBits = 0x4b000000;  // of 2^23
#pragma unroll
  for (uint32_t i = 0; i < 4; ++i)
    to[i] = __uint_as_float(__byte_perm(bytes, kBits, 0x7440 + i)) - (8388608.0f + zero);
}

/// Eight neighbours of 8 bits, as the file has them. A row has one scale.
struct EightBits {
  uint2 bits;

  static constexpr int scales_of(int /*width*/) { return 1; }
  __device__ static int scale_at(int /*column*/) { return 0; }
  __device__ int number(int i) const { return static_cast<int8_t>((i < 4 ? bits.x : bits.y) >> i % 4 * 8); }
  __device__ void unpack(float (&to)[kVector]) const {
    constexpr uint32_t kSigns = 0x80808080;
    bytes_to_floats(bits.x ^ kSigns, 128.0f, to);
    bytes_to_floats(bits.y ^ kSigns, 128.0f, to + 4);
  }
};

/// Eight neighbours of 4 bits, 8 added: byte j of the word has number j in its low half and number j + 4 in
/// its high half. 32 numbers share a scale.
struct FourBits {
  uint32_t bits;

  static constexpr int kGroup = 32;
  static constexpr int scales_of(int width) { return (width + kGroup - 1) / kGroup; }
  __device__ static int shift_of(int i) { return i % 4 * 8 + i / 4 * 4; }
  __device__ static int scale_at(int column) { return column / kGroup; }
  __device__ int number(int i) const { return static_cast<int>(bits >> shift_of(i) & 15) - 8; }
  __device__ void unpack(float (&to)[kVector]) const {
    constexpr uint32_t kLow = 0x0f0f0f0f;
    bytes_to_floats(bits & kLow, 8.0f, to);
    bytes_to_floats(bits >> 4 & kLow, 8.0f, to + 4);
  }
};

template <class Element>
constexpr bool kQuantized = false;
template <>
inline constexpr bool kQuantized<EightBits> = true;
template <>
inline constexpr bool kQuantized<FourBits> = true;

/// Eight quantized numbers as they are stored.
template <class Eight>
struct Scaled {
  Eight eight;
  __half scale;
};

/// The numbers without their scale.
template <class Eight>
__device__ inline void unpack(const Scaled<Eight>& vector, float (&to)[kVector]) {
  vector.eight.unpack(to);
}

/// What unpacked numbers are multiplied with.
template <class Eight>
__device__ inline float scale_of(const Scaled<Eight>& vector) {
  return to_float(vector.scale);
}
template <class Element>
__device__ inline float scale_of(const Stored<Element>&) {
  return 1.0f;
}

/// Rows of floats.
template <class Element>
struct WeightRows {
  using Vector = Stored<Element>;

  const Element* data;
  int64_t stride;  // in elements

  /// Eight numbers from `column`, a multiple of 8, on.
  __device__ Vector load(int64_t row, int column) const { return load_stored(data + row * stride + column); }
  __device__ float number(int64_t row, int column) const { return to_float(data[row * stride + column]); }
  __device__ WeightRows from(int64_t row) const { return {data + row * stride, stride}; }
};

/// Quantized rows.
template <class Eight>
requires kQuantized<Eight>
struct WeightRows<Eight> {
  using Vector = Scaled<Eight>;

  const Eight* data;
  const __half* scales;
  int64_t stride;  // in vectors of eight
  int scale_stride;

  __device__ const Eight* vector_at(int64_t row, int column) const {
    return data + row * stride + column / kVector;
  }
  __device__ const __half* scale_at(int64_t row, int column) const {
    return scales + row * scale_stride + Eight::scale_at(column);
  }
  __device__ Vector load(int64_t row, int column) const {
    return {*vector_at(row, column), *scale_at(row, column)};
  }
  __device__ float number(int64_t row, int column) const {
    return static_cast<float>(vector_at(row, column)->number(column % kVector)) *
           to_float(*scale_at(row, column));
  }
  __device__ WeightRows from(int64_t row) const {
    return {data + row * stride, scales + row * scale_stride, stride, scale_stride};
  }
};

/// A packed matrix of rows of D.
template <class Element>
WeightRows<Element> rows_of(const PackedMatrix& matrix, const Sizes& sizes) {
  if constexpr (kQuantized<Element>) {
    return {matrix.values.as<const Element>(), matrix.scales.as<const __half>(), sizes.stride / kVector,
            Element::scales_of(sizes.width)};
  } else {
    return {matrix.values.as<const Element>(), sizes.stride};
  }
}

}  // namespace bdh::cuda
