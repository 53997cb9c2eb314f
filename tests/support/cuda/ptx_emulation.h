// The tensor core's product, ldmatrix and cp.async, on fragments laid out as the PTX ISA documents them.
// Knows nothing of the kernels.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "bdh/base/dtype.h"
#include "tests/support/cuda/block.h"

namespace emulation {

/// The warp's A and B of one m16n8k16 product, as float32.
struct Operands {
  float a[16][16];  // [row][k]
  float b[8][16];   // [column][k]
};

/// The rows and columns of the operands that this lane's four results need; the others stay as they are.
template <class ToFloat>
void unpack(const Exchange& given, unsigned lane, ToFloat to_float, Operands& operands) {
  const unsigned group = lane / 4, column = lane % 4 * 2;
  const auto word = [&](unsigned from, unsigned index) {
    uint32_t bits;
    std::memcpy(&bits, given.slots[from].bytes + 4 * index, 4);
    return bits;
  };
  const auto put = [&](float* pair, uint32_t bits) {
    pair[0] = to_float(static_cast<uint16_t>(bits & 0xFFFF));
    pair[1] = to_float(static_cast<uint16_t>(bits >> 16));
  };
  for (unsigned quarter = 0; quarter < 4; ++quarter) {
    const unsigned from = group * 4 + quarter;
    for (unsigned i = 0; i < 4; ++i)
      put(&operands.a[group + i % 2 * 8][quarter * 2 + i / 2 * 8], word(from, i));
    for (unsigned n = column; n < column + 2; ++n) {
      for (unsigned i = 0; i < 2; ++i) put(&operands.b[n][quarter * 2 + i * 8], word(n * 4 + quarter, 4 + i));
    }
  }
}

template <class ToFloat>
void matrix_product(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], ToFloat to_float) {
  const uint32_t words[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const Exchange& given = exchange(Collective::matrix_product, words, sizeof words);
  if (given.lanes != ~0u) throw std::logic_error("mma by a warp with lanes missing");
  const unsigned lane = lane_id();
  Operands operands;
  unpack(given, lane, to_float, operands);
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
    float sum = d[i];
    for (unsigned k = 0; k < 16; ++k) sum += operands.a[row][k] * operands.b[column][k];
    d[i] = sum;
  }
}

/// Lane i of the first 8 * count gives where row i % 8 of matrix i / 8 starts.
template <bool transposed, unsigned count>
void load_matrices(uint32_t (&r)[count], const void* shared_row) {
  const unsigned lane = lane_id();
  uint16_t row_of_lane[8] = {};
  if (lane < 8 * count) {
    require_shared(shared_row, sizeof row_of_lane, "ldmatrix");
    std::memcpy(row_of_lane, shared_row, sizeof row_of_lane);
  }
  const Exchange& given = exchange(Collective::matrix_load, row_of_lane, sizeof row_of_lane);
  if (given.lanes != ~0u) throw std::logic_error("ldmatrix by a warp with lanes missing");
  const auto element = [&](unsigned matrix, unsigned row, unsigned column) {
    uint16_t bits;
    std::memcpy(&bits, given.slots[matrix * 8 + row].bytes + 2 * column, 2);
    return uint32_t{bits};
  };
  const unsigned major = lane / 4, minor = lane % 4 * 2;
  for (unsigned i = 0; i < count; ++i) {
    r[i] = transposed ? element(i, minor, major) | element(i, minor + 1, major) << 16
                      : element(i, major, minor) | element(i, major, minor + 1) << 16;
  }
}

}  // namespace emulation

/// d += a b: m16n8k16, row-major a, column-major b.
inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulation::matrix_product(d, a, b, bdh::bf16_to_f32);
}
inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  emulation::matrix_product(d, a, b, bdh::f16_to_f32);
}

inline void load_matrix_x4(uint32_t (&r)[4], const void* shared_row) {
  emulation::load_matrices<false>(r, shared_row);
}
inline void load_matrix_x4_transposed(uint32_t (&r)[4], const void* shared_row) {
  emulation::load_matrices<true>(r, shared_row);
}
inline void load_matrix_x2(uint32_t (&r)[2], const void* shared_row) {
  emulation::load_matrices<false>(r, shared_row);
}
inline void load_matrix_x2_transposed(uint32_t (&r)[2], const void* shared_row) {
  emulation::load_matrices<true>(r, shared_row);
}

inline void copy_async_16(void* shared, const void* global, bool whole) {
  emulation::copy_later(shared, global, whole);
}
inline void copy_async_commit() { emulation::commit_copies(); }
template <int N>
void copy_async_wait() {
  emulation::wait_for_copies(N);
}
