// The kernels for quantized rows, of every instruction set, against plain loops in double precision.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/backend.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/packed.h"

using namespace bdh;
using namespace bdh::cpu;

namespace {

constexpr int64_t kRows = 40, kGroup = 32;

/// Random rows, a byte off any alignment, and the numbers that they stand for.
struct Quantized {
  std::vector<std::byte> bytes, scales;
  Rows rows{};
  std::vector<double> numbers;  // (kRows, width)

  Quantized(DType dtype, int64_t width, std::mt19937& random) {
    const bool four = dtype == DType::u8;
    const int64_t stored = (width + kQuantizedPadding - 1) / kQuantizedPadding * kQuantizedPadding;
    const int64_t stride = four ? stored / 2 : stored, groups = four ? stored / kGroup : 1;
    bytes.resize(static_cast<size_t>(kRows * stride) + 1);
    scales.resize(static_cast<size_t>(kRows * groups) * 2 + 1);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    for (int64_t i = 0; i < kRows * groups; ++i) {
      const uint16_t bits = f32_to_f16(std::uniform_real_distribution<float>(-0.02f, 0.02f)(random));
      std::memcpy(&scales[static_cast<size_t>(2 * i + 1)], &bits, sizeof bits);
    }
    rows = {bytes.data() + 1, dtype, stride, reinterpret_cast<const uint16_t*>(scales.data() + 1), groups};
    for (int64_t i = 0; i < kRows; ++i) {
      for (int64_t d = 0; d < width; ++d) numbers.push_back(number(i, d, four));
    }
  }

  double number(int64_t row, int64_t d, bool four) const {
    const std::byte* from = bytes.data() + 1 + row * rows.stride;
    uint16_t scale = 0;
    std::memcpy(&scale, scales.data() + 1 + 2 * (row * rows.scale_stride + (four ? d / kGroup : 0)), 2);
    if (!four) return double{f16_to_f32(scale)} * static_cast<int8_t>(from[d]);
    const auto byte = static_cast<int>(from[d / kGroup * (kGroup / 2) + d % (kGroup / 2)]);
    return double{f16_to_f32(scale)} * ((d % kGroup < kGroup / 2 ? byte & 15 : byte >> 4) - 8);
  }
};

/// More rows than any kernel takes side by side, some twice.
std::vector<int32_t> gathered_rows() {
  std::vector<int32_t> index{3, 39, 0, 17, 17};
  for (int32_t i = 0; i < 32; ++i) index.push_back((i * 7 + 3) % kRows);
  return index;
}

std::vector<float> floats(int64_t count, std::mt19937& random) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = std::normal_distribution<float>(0, 1)(random);
  return values;
}

template <class Body>
void for_each_case(const Body& body) {
  std::mt19937 random(11);
  for (const std::string& isa : available_isas()) {
    for (const DType dtype : {DType::i8, DType::u8}) {
      for (const int64_t width : {16, 48, 64, 80, 256, 528, 4160}) {
        CAPTURE(isa);
        CAPTURE(name_of(dtype));
        CAPTURE(width);
        body(kernels_for(isa), Quantized(dtype, width, random), width, random);
      }
    }
  }
}

}  // namespace

TEST_CASE("quantized rows: dot products, with x rounded to 16 bits") {
  for_each_case([](const Kernels& kernels, const Quantized& quantized, int64_t width, std::mt19937& random) {
    const std::vector<float> x = floats(width, random);
    const std::vector<int32_t> index = gathered_rows();
    for (const bool gathered : {false, true}) {
      CAPTURE(gathered);
      const int64_t count = gathered ? std::ssize(index) : kRows;
      std::vector<float> dots(static_cast<size_t>(count) + 1, std::numeric_limits<float>::quiet_NaN());
      kernels.dot_rows(quantized.rows, gathered ? index.data() : nullptr, count, width, x.data(),
                       dots.data());
      for (int64_t i = 0; i < count; ++i) {
        const int64_t row = gathered ? index[static_cast<size_t>(i)] : i;
        double expected = 0, length = 0;
        for (int64_t d = 0; d < width; ++d) {
          const double number = quantized.numbers[static_cast<size_t>(row * width + d)];
          expected += number * x[static_cast<size_t>(d)];
          length += number * number;
        }
        CHECK(std::abs(dots[static_cast<size_t>(i)] - expected) < 3e-4 * std::sqrt(length));
      }
      CHECK(std::isnan(dots.back()));
    }
  });
}

TEST_CASE("quantized rows: a dot product has the same bits in any list") {
  for_each_case([](const Kernels& kernels, const Quantized& quantized, int64_t width, std::mt19937& random) {
    const std::vector<float> x = floats(width, random);
    const std::vector<int32_t> index = gathered_rows();
    std::vector<float> dense(kRows), gathered(index.size());
    kernels.dot_rows(quantized.rows, nullptr, kRows, width, x.data(), dense.data());
    kernels.dot_rows(quantized.rows, index.data(), std::ssize(index), width, x.data(), gathered.data());
    for (size_t i = 0; i < index.size(); ++i) CHECK(gathered[i] == dense[static_cast<size_t>(index[i])]);
  });
}

TEST_CASE("quantized rows: weighted sums, and rows as floats") {
  for_each_case([](const Kernels& kernels, const Quantized& quantized, int64_t width, std::mt19937& random) {
    const std::vector<int32_t> index = gathered_rows();
    const std::vector<float> scale = floats(std::ssize(index), random), before = floats(width, random);
    std::vector<float> sums = before;
    kernels.accumulate_rows(quantized.rows, index.data(), scale.data(), std::ssize(index), width,
                            sums.data());
    std::vector<float> all(static_cast<size_t>(width));
    kernels.accumulate_rows(quantized.rows, nullptr, nullptr, kRows, width, all.data());
    std::vector<float> wide(static_cast<size_t>(kRows * width));
    kernels.widen_quantized(quantized.rows, kRows, width, wide.data());
    double worst = 0;
    for (int64_t d = 0; d < width; ++d) {
      double some = before[static_cast<size_t>(d)], whole = 0;
      for (size_t i = 0; i < index.size(); ++i)
        some += scale[i] * quantized.numbers[static_cast<size_t>(index[i] * width + d)];
      for (int64_t i = 0; i < kRows; ++i) {
        const double number = quantized.numbers[static_cast<size_t>(i * width + d)];
        whole += number;
        worst = std::max(worst, std::abs(number - wide[static_cast<size_t>(i * width + d)]));
      }
      CHECK(sums[static_cast<size_t>(d)] == doctest::Approx(some).epsilon(1e-5).scale(10));
      CHECK(all[static_cast<size_t>(d)] == doctest::Approx(whole).epsilon(1e-5).scale(10));
    }
    CHECK(worst < 1e-6);
  });
}

TEST_CASE("quantized rows: an x that is not finite is not hidden, one that is zero gives zero") {
  for_each_case([](const Kernels& kernels, const Quantized& quantized, int64_t width, std::mt19937& random) {
    std::vector<float> x = floats(width, random), dots(kRows);
    for (const float bad :
         {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
      x[static_cast<size_t>(width - 1)] = bad;
      kernels.dot_rows(quantized.rows, nullptr, kRows, width, x.data(), dots.data());
      for (const float dot : dots) CHECK(std::isnan(dot));
    }
    x.assign(x.size(), 0.0f);
    kernels.dot_rows(quantized.rows, nullptr, kRows, width, x.data(), dots.data());
    for (const float dot : dots) CHECK(dot == 0.0f);
  });
}

TEST_CASE("quantized rows: the largest numbers do not overflow, and instruction sets give the same bits") {
  constexpr int64_t kWidth = 1024;
  const std::vector<std::byte> bytes(kWidth, std::byte{0x80});  // -128
  const std::vector<uint16_t> one{f32_to_f16(1.0f)};
  const std::vector<float> x(kWidth, 3.0f);
  std::vector<float> first;
  for (const std::string& isa : available_isas()) {
    std::vector<float> dot(1);
    kernels_for(isa).dot_rows({bytes.data(), DType::i8, kWidth, one.data(), 1}, nullptr, 1, kWidth, x.data(),
                              dot.data());
    CHECK(dot[0] == doctest::Approx(-128.0 * 3 * kWidth).epsilon(1e-4));
    if (first.empty()) first = dot;
    CHECK(dot == first);
  }
}

TEST_CASE("quantized rows: the largest numbers of 4 bits times the largest x do not overflow") {
  constexpr int64_t kWidth = 1024;
  const std::vector<uint16_t> ones(kWidth / kGroup, f32_to_f16(1.0f));
  for (const std::string& isa : available_isas()) {
    CAPTURE(isa);
    for (const int number : {-8, 7}) {
      const auto half = static_cast<unsigned>(number + 8);
      const std::vector<std::byte> bytes(kWidth / 2, static_cast<std::byte>(half << 4 | half));
      // Near 3, the largest x: both of its bytes are, or one is of the other sign.
      for (const float other : {3.0f, -3.0f, 2.99f, -2.985f}) {
        std::vector<float> x(kWidth, other), dot(1);
        x[0] = 3.0f;
        kernels_for(isa).dot_rows({bytes.data(), DType::u8, kWidth / 2, ones.data(), kWidth / kGroup},
                                  nullptr, 1, kWidth, x.data(), dot.data());
        CHECK(dot[0] == doctest::Approx(static_cast<double>(number) * (3.0 + (kWidth - 1) * double{other}))
                            .epsilon(1e-4));
      }
    }
  }
}
