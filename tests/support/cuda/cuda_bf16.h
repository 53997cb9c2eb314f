// CUDA's bfloat16: storage and conversions, no arithmetic. Conversions to and from float are explicit, which
// is stricter than CUDA's own header.
#pragma once

#include <bit>
#include <cstdint>

#include "bdh/base/dtype.h"
#include "tests/support/cuda/vectors.h"

// NOLINTBEGIN(bugprone-reserved-identifier): the names are CUDA's.

struct __nv_bfloat16 {
  unsigned short bits;  // a device sees no such member: ask __bfloat16_as_ushort

  __nv_bfloat16() = default;
  explicit __nv_bfloat16(float value);
  explicit operator float() const { return bdh::bf16_to_f32(bits); }
};

struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

using nv_bfloat16 = __nv_bfloat16;
using nv_bfloat162 = __nv_bfloat162;

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return std::bit_cast<__nv_bfloat16>(bits); }

/// To nearest, ties to even; every NaN becomes 0x7FFF.
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  return __ushort_as_bfloat16(value == value ? bdh::f32_to_bf16(value) : uint16_t{0x7FFF});
}
inline __nv_bfloat16 __float2bfloat16(float value) { return __float2bfloat16_rn(value); }
inline float __bfloat162float(__nv_bfloat16 value) { return static_cast<float>(value); }
inline __nv_bfloat16::__nv_bfloat16(float value) : bits(__float2bfloat16_rn(value).bits) {}

inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
  return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
inline float2 __bfloat1622float2(__nv_bfloat162 value) {
  return {__bfloat162float(value.x), __bfloat162float(value.y)};
}
inline float __low2float(__nv_bfloat162 value) { return __bfloat162float(value.x); }
inline float __high2float(__nv_bfloat162 value) { return __bfloat162float(value.y); }

// NOLINTEND(bugprone-reserved-identifier)
