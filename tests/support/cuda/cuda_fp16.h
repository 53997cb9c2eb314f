// CUDA's half: storage and conversions, no arithmetic. Conversions to and from float are explicit, which is
// stricter than CUDA's own header.
#pragma once

#include <bit>
#include <cstdint>

#include "bdh/base/dtype.h"
#include "tests/support/cuda/vectors.h"

// NOLINTBEGIN(bugprone-reserved-identifier): the names are CUDA's.

struct __half {
  unsigned short bits;  // a device sees no such member: ask __half_as_ushort

  __half() = default;
  explicit __half(float value);
  explicit operator float() const { return bdh::f16_to_f32(bits); }
};

struct alignas(4) __half2 {
  __half x, y;
};

using half = __half;
using half2 = __half2;

inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline __half __ushort_as_half(unsigned short bits) { return std::bit_cast<__half>(bits); }

/// To nearest, ties to even; every NaN becomes 0x7FFF.
inline __half __float2half_rn(float value) {
  return __ushort_as_half(value == value ? bdh::f32_to_f16(value) : uint16_t{0x7FFF});
}
inline __half __float2half(float value) { return __float2half_rn(value); }
inline float __half2float(__half value) { return static_cast<float>(value); }
inline __half::__half(float value) : bits(__float2half_rn(value).bits) {}

inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }
inline float2 __half22float2(__half2 value) { return {__half2float(value.x), __half2float(value.y)}; }
inline float __low2float(__half2 value) { return __half2float(value.x); }
inline float __high2float(__half2 value) { return __half2float(value.y); }

// NOLINTEND(bugprone-reserved-identifier)
