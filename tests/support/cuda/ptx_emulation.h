// The tensor core's product, ldmatrix and cp.async, on fragments laid out as the PTX ISA documents them.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "bdh/base/dtype.h"
#include "tests/support/cuda/block.h"

namespace emulation {

/// The a, b and a b of one m16n8k16 product.
struct Product {
  float a[16][16], b[16][8], ab[16][8];

  void multiply() {
    for (unsigned row = 0; row < 16; ++row) {
      float sums[8] = {};
      for (unsigned k = 0; k < 16; ++k) {
        for (unsigned column = 0; column < 8; ++column) sums[column] += a[row][k] * b[k][column];
      }
      std::memcpy(ab[row], sums, sizeof sums);
    }
  }
};

/// The operands from the registers that the lanes gave: four of a, two of b, each of two values.
template <class ToFloat>
void unpack(const Exchange& given, ToFloat to_float, Product& product) {
  for (unsigned lane = 0; lane < 32; ++lane) {
    const unsigned group = lane / 4, pair = lane % 4 * 2;
    uint16_t values[12];
    std::memcpy(values, given.slots[lane].bytes, sizeof values);
    for (unsigned i = 0; i < 8; ++i) {
      product.a[group + i / 2 % 2 * 8][pair + i % 2 + i / 4 * 8] = to_float(values[i]);
    }
    for (unsigned i = 0; i < 4; ++i) product.b[pair + i % 2 + i / 2 * 8][group] = to_float(values[8 + i]);
  }
}

template <class ToFloat>
void matrix_product(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], ToFloat to_float) {
  const uint32_t registers[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
  const Exchange& given = exchange(Collective::matrix_product, registers, sizeof registers);
  if (given.lanes != ~0u) throw std::logic_error("mma by a warp with lanes missing");
  using Result = float[16][8];
  const Result& ab = given.result<Result>([&](Result& made) {
    Product product;
    unpack(given, to_float, product);
    product.multiply();
    std::memcpy(made, product.ab, sizeof made);
  });
  const unsigned group = lane_id() / 4, pair = lane_id() % 4 * 2;
  for (unsigned i = 0; i < 4; ++i) d[i] += ab[group + i / 2 * 8][pair + i % 2];
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

/// d += a b: m16n8k16, row-major a, column-major b.
inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  matrix_product(d, a, b, bdh::bf16_to_f32);
}
inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  matrix_product(d, a, b, bdh::f16_to_f32);
}

inline void load_matrix_x4(uint32_t (&r)[4], const void* shared_row) { load_matrices<false>(r, shared_row); }
inline void load_matrix_x4_transposed(uint32_t (&r)[4], const void* shared_row) {
  load_matrices<true>(r, shared_row);
}
inline void load_matrix_x2(uint32_t (&r)[2], const void* shared_row) { load_matrices<false>(r, shared_row); }
inline void load_matrix_x2_transposed(uint32_t (&r)[2], const void* shared_row) {
  load_matrices<true>(r, shared_row);
}

template <int bytes>
void copy_async(void* shared, const void* global, bool whole) {
  copy_later(shared, global, bytes, whole);
}
inline void copy_async_commit() { commit_copies(); }
template <int N>
void copy_async_wait() {
  wait_for_copies(N);
}

}  // namespace emulation
