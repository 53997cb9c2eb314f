// The emulated tensor core, ldmatrix, cp.async and the 16-bit types, against plain loops.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "tests/support/cuda/cuda_bf16.h"
#include "tests/support/cuda/cuda_fp16.h"
#include "tests/support/cuda/emulator.h"
#include "tests/support/cuda/ptx_emulation.h"

namespace {

constexpr unsigned kRows = 16, kColumns = 8, kDepth = 16;

uint16_t* shared_words() { return reinterpret_cast<uint16_t*>(emulation::shared_memory()); }

/// a: [16][16] by rows, b: [16][8] by rows; small whole numbers, so that every order of the sums gives the
/// same.
struct Matrices {
  float a[kRows][kDepth], b[kDepth][kColumns], c[kRows][kColumns];

  explicit Matrices(unsigned seed) {
    std::mt19937 random(seed);
    const auto fill = [&](auto& matrix) {
      for (auto& row : matrix) {
        for (float& value : row) value = static_cast<float>(random() % 33) - 16.0f;
      }
    };
    fill(a);
    fill(b);
    fill(c);
  }
  float product(unsigned row, unsigned column) const {
    float sum = c[row][column];
    for (unsigned k = 0; k < kDepth; ++k) sum += a[row][k] * b[k][column];
    return sum;
  }
};

/// The two 16-bit values of a register, as the PTX ISA puts them: the first in the lower half.
template <class ToBits>
uint32_t pair(ToBits to_bits, float low, float high) {
  return uint32_t{to_bits(low)} | uint32_t{to_bits(high)} << 16;
}

template <class ToBits, class Product>
void check_product(const Matrices& matrices, ToBits to_bits, Product product) {
  emulation::launch("mma", nullptr, 1, 64, 0, nullptr, [&] {
    const unsigned lane = threadIdx.x % 32, group = lane / 4, pairs = lane % 4 * 2;
    uint32_t a[4], b[2];
    float d[4];
    for (unsigned i = 0; i < 4; ++i) {
      const float* const from = &matrices.a[group + (i % 2 == 1 ? 8 : 0)][pairs + (i >= 2 ? 8 : 0)];
      a[i] = pair(to_bits, from[0], from[1]);
      d[i] = matrices.c[group + (i >= 2 ? 8 : 0)][pairs + i % 2];
    }
    for (unsigned i = 0; i < 2; ++i) {
      b[i] = pair(to_bits, matrices.b[pairs + 8 * i][group], matrices.b[pairs + 8 * i + 1][group]);
    }
    product(d, a, b);
    for (unsigned i = 0; i < 4; ++i) {
      CHECK(d[i] == matrices.product(group + (i >= 2 ? 8 : 0), pairs + i % 2));
    }
  });
}

}  // namespace

TEST_CASE("emulated mma: a product of fragments is the product of the matrices") {
  emulation::reset();
  for (unsigned seed = 0; seed < 5; ++seed) {
    emulation::set_thread_order(seed);
    check_product(Matrices(seed), bdh::f32_to_bf16,
                  [](auto& d, auto& a, auto& b) { emulation::mma_bf16(d, a, b); });
    check_product(Matrices(seed), bdh::f32_to_f16,
                  [](auto& d, auto& a, auto& b) { emulation::mma_f16(d, a, b); });
  }
  emulation::reset();
  CHECK_THROWS_AS(emulation::launch("mma", nullptr, 1, 16, 0, nullptr,
                                    [] {
                                      float d[4] = {};
                                      const uint32_t a[4] = {}, b[2] = {};
                                      emulation::mma_bf16(d, a, b);
                                    }),
                  std::logic_error);
}

TEST_CASE("emulated ldmatrix: the parts of a fragment come from the rows that lanes name") {
  emulation::reset();
  // Element (row, column) of matrix m holds 1000 m + 10 row + column; the rows lie 12 elements apart and
  // backwards.
  emulation::launch("ldmatrix", nullptr, 1, 32, 4 * 8 * 16 * 2, nullptr, [] {
    const unsigned lane = threadIdx.x;
    const auto row_start = [](unsigned row) { return shared_words() + (31 - row) * 16; };
    for (unsigned i = 0; i < 8; ++i) {
      row_start(lane)[i] = static_cast<uint16_t>(1000 * (lane / 8) + 10 * (lane % 8) + i);
    }
    __syncwarp();
    uint32_t four[4], two[2];
    const unsigned major = lane / 4, minor = lane % 4 * 2;
    emulation::load_matrix_x4(four, row_start(lane));
    for (unsigned m = 0; m < 4; ++m) {
      CHECK((four[m] & 0xFFFF) == 1000 * m + 10 * major + minor);
      CHECK((four[m] >> 16) == 1000 * m + 10 * major + minor + 1);
    }
    emulation::load_matrix_x4_transposed(four, row_start(lane));
    for (unsigned m = 0; m < 4; ++m) {
      CHECK((four[m] & 0xFFFF) == 1000 * m + 10 * minor + major);
      CHECK((four[m] >> 16) == 1000 * m + 10 * (minor + 1) + major);
    }
    emulation::load_matrix_x2(two, lane < 16 ? row_start(lane) : nullptr);
    CHECK((two[1] & 0xFFFF) == 1000 + 10 * major + minor);
    emulation::load_matrix_x2_transposed(two, lane < 16 ? row_start(lane) : nullptr);
    CHECK((two[1] >> 16) == 1000 + 10 * (minor + 1) + major);
  });
  const auto load_from = [](size_t offset) {
    emulation::launch("ldmatrix", nullptr, 1, 32, 512, nullptr, [offset] {
      uint32_t r[4];
      emulation::load_matrix_x4(r, emulation::shared_memory() + offset);
    });
  };
  CHECK_NOTHROW(load_from(496));
  CHECK_THROWS_AS(load_from(8), std::logic_error);
  CHECK_THROWS_AS(load_from(512), std::logic_error);
}

TEST_CASE("emulated ldmatrix and mma: a product from shared memory") {
  emulation::reset();
  const Matrices matrices(11);
  emulation::launch("product", nullptr, 1, 32, (16 * 16 + 16 * 8) * 2, nullptr, [&] {
    const unsigned lane = threadIdx.x;
    uint16_t* const shared_a = shared_words();            // [16][16]
    uint16_t* const shared_b = shared_words() + 16 * 16;  // [16][8]
    for (unsigned i = lane; i < 256; i += 32) shared_a[i] = bdh::f32_to_bf16(matrices.a[i / 16][i % 16]);
    for (unsigned i = lane; i < 128; i += 32) shared_b[i] = bdh::f32_to_bf16(matrices.b[i / 8][i % 8]);
    __syncwarp();
    uint32_t a[4], b[2];
    float d[4];
    for (unsigned i = 0; i < 4; ++i) d[i] = matrices.c[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
    emulation::load_matrix_x4(a, shared_a + lane % 16 * 16 + lane / 16 * 8);
    emulation::load_matrix_x2_transposed(b, shared_b + lane % 16 * 8);
    emulation::mma_bf16(d, a, b);
    for (unsigned i = 0; i < 4; ++i) {
      CHECK(d[i] == matrices.product(lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2));
    }
  });
}

TEST_CASE("emulated cp.async: bytes arrive at the wait for their group, not before") {
  emulation::reset();
  alignas(16) float from[12];
  for (int i = 0; i < 12; ++i) from[i] = static_cast<float>(i);
  emulation::launch("copies", nullptr, 1, 1, 64, nullptr, [&] {
    float* const to = reinterpret_cast<float*>(emulation::shared_memory());
    for (int i = 0; i < 16; ++i) to[i] = 50;
    emulation::copy_async<16>(to, from, true);
    emulation::copy_async_commit();
    emulation::copy_async<16>(to + 4, from + 4, true);
    emulation::copy_async<16>(to + 8, nullptr, false);
    emulation::copy_async_commit();
    emulation::copy_async<16>(to + 12, from + 8, true);
    CHECK(std::isnan(to[0]));
    emulation::copy_async_wait<2>();
    CHECK(std::isnan(to[0]));
    emulation::copy_async_wait<1>();
    CHECK(to[3] == 3);
    CHECK(std::isnan(to[4]));
    CHECK(std::isnan(to[11]));
    emulation::copy_async_wait<0>();
    CHECK(to[7] == 7);
    CHECK(to[8] == 0);
    CHECK(std::isnan(to[12]));  // it was not committed
    emulation::copy_async<8>(to + 4, from + 2, true);
    emulation::copy_async<4>(to + 6, from + 1, true);
    emulation::copy_async_commit();
    emulation::copy_async_wait<0>();
    CHECK(to[15] == 11);
    CHECK(to[5] == 3);
    CHECK(to[6] == 1);
    CHECK(to[7] == 7);
  });
  CHECK_THROWS_AS(
      emulation::launch("copies", nullptr, 1, 1, 64, nullptr,
                        [&] { emulation::copy_async<16>(emulation::shared_memory() + 56, from, true); }),
      std::logic_error);
  CHECK_THROWS_AS(
      emulation::launch("copies", nullptr, 1, 1, 64, nullptr,
                        [&] { emulation::copy_async<8>(emulation::shared_memory() + 4, from, true); }),
      std::logic_error);
}

TEST_CASE("emulated 16-bit floats: rounded to nearest even, with denormals and NaN") {
  const auto bf16 = [](float value) { return __bfloat16_as_ushort(__float2bfloat16_rn(value)); };
  CHECK(bf16(1.0f) == 0x3F80);
  CHECK(bf16(1.0f + 0x1p-8f) == 0x3F80);
  CHECK(bf16(1.0f + 0x3p-8f) == 0x3F82);
  CHECK(bf16(0x1p-133f) == 0x0001);
  CHECK(bf16(std::numeric_limits<float>::max()) == 0x7F80);
  CHECK(bf16(std::nanf("")) == 0x7FFF);
  const auto f16 = [](float value) { return __half_as_ushort(__float2half_rn(value)); };
  CHECK(f16(1.0f) == 0x3C00);
  CHECK(f16(1.0f + 0x1p-11f) == 0x3C00);
  CHECK(f16(1.0f + 0x3p-11f) == 0x3C02);
  CHECK(f16(0x1p-24f) == 0x0001);
  CHECK(f16(65520.0f) == 0x7C00);
  CHECK(f16(std::nanf("")) == 0x7FFF);
  CHECK(__bfloat1622float2(__floats2bfloat162_rn(1, -2)).y == -2);
  CHECK(__half22float2(__floats2half2_rn(1, -2)).x == 1);
  static_assert(sizeof(__half2) == 4 && sizeof(__nv_bfloat162) == 4);
}

TEST_CASE("emulated arithmetic: half turns are exact") {
  float sine = 0, cosine = 0;
  sincospif(0.5f, &sine, &cosine);
  CHECK(sine == 1.0f);
  sincospif(1e7f + 1, &sine, &cosine);
  CHECK(cosine == -1.0f);
  CHECK(rsqrtf(4.0f) == 0.5f);
  CHECK(__brev(1u) == 0x80000000u);
  CHECK(__clz(1) == 31);
  CHECK(__ffs(8) == 4);
  CHECK(__ffs(0) == 0);
  CHECK(min(3u, 5) == 3u);
}
