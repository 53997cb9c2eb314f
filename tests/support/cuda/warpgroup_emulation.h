// wgmma on operands in the 128-byte swizzle, decoded from their descriptors as the PTX ISA documents them. A
// product is done where it is started: what a kernel may not yet rely on, it is given early.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "bdh/base/dtype.h"
#include "tests/support/cuda/block.h"
#include "tests/support/cuda/cuda_bf16.h"
#include "tests/support/cuda/cuda_fp16.h"

namespace emulation {

/// Addresses in shared memory count from the block's own.
inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(pointer) - shared_memory());
}

template <int alignment>
unsigned char* align_shared(unsigned char* shared) {
  return shared + (0u - shared_address(shared)) % alignment;
}

inline uint64_t swizzled_matrix(const void* start, int half, int group) {
  require_shared(start, 16, "wgmma");
  return uint64_t{shared_address(start) >> 4} | static_cast<uint64_t>(half >> 4) << 16 |
         static_cast<uint64_t>(group >> 4) << 32 | uint64_t{1} << 62;
}

/// What a descriptor stands for: bytes from the block's shared memory on.
struct SwizzledMatrix {
  uint32_t start, leading, stride;

  explicit SwizzledMatrix(uint64_t descriptor)
      : start(static_cast<uint32_t>(descriptor & 0x3fff) << 4),
        leading(static_cast<uint32_t>(descriptor >> 16 & 0x3fff) << 4),
        stride(static_cast<uint32_t>(descriptor >> 32 & 0x3fff) << 4) {
    if (descriptor >> 62 != 1) throw std::logic_error("wgmma: only the 128-byte swizzle is emulated");
    if ((descriptor >> 49 & 7) != 0) throw std::logic_error("wgmma: a base offset is not emulated");
  }

  /// The element at row `mn` of m or n and column `k`; transposed: mn runs along the stored rows.
  uint16_t at(unsigned mn, unsigned k, bool transposed) const {
    const uint32_t linear = transposed
                                ? start + mn / 64 * leading + k / 8 * stride + k % 8 * 128 + mn % 64 * 2
                                : start + mn / 8 * stride + mn % 8 * 128 + k * 2;
    const unsigned char* place = shared_memory() + (linear ^ (linear >> 7 & 7) << 4);
    require_shared(place - linear % 16, 16, "wgmma");
    uint16_t bits;
    std::memcpy(&bits, place, sizeof bits);
    return bits;
  }
};

template <bool a_transposed, bool b_transposed, class ToFloat>
void warpgroup_product(float (&d)[64], uint64_t a_descriptor, uint64_t b_descriptor, ToFloat to_float) {
  const SwizzledMatrix a(a_descriptor), b(b_descriptor);
  const unsigned lane = threadIdx.x % 32, row = threadIdx.x % 128 / 32 * 16 + lane / 4, pair = lane % 4 * 2;
  float a_rows[2][16];
  for (unsigned i = 0; i < 2; ++i) {
    for (unsigned k = 0; k < 16; ++k) a_rows[i][k] = to_float(a.at(row + 8 * i, k, a_transposed));
  }
  for (unsigned j = 0; j < 32; ++j) {
    const unsigned column = j / 2 * 8 + pair + j % 2;
    float sums[2] = {};
    for (unsigned k = 0; k < 16; ++k) {
      const float value = to_float(b.at(column, k, b_transposed));
      sums[0] += a_rows[0][k] * value;
      sums[1] += a_rows[1][k] * value;
    }
    d[j / 2 * 4 + j % 2] += sums[0];
    d[j / 2 * 4 + 2 + j % 2] += sums[1];
  }
}

template <bool a_transposed, bool b_transposed>
void warpgroup_multiply_add(float (&d)[64], uint64_t a, uint64_t b, const __nv_bfloat16*) {
  warpgroup_product<a_transposed, b_transposed>(d, a, b, bdh::bf16_to_f32);
}
template <bool a_transposed, bool b_transposed>
void warpgroup_multiply_add(float (&d)[64], uint64_t a, uint64_t b, const __half*) {
  warpgroup_product<a_transposed, b_transposed>(d, a, b, bdh::f16_to_f32);
}

inline void show_to_tensor_cores() {}
inline void warpgroup_begin() {}
inline void warpgroup_wait() {}

}  // namespace emulation
