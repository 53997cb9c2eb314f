// Names, sizes and conversions of element types, against formulas that are slow and plain.
#include "bdh/base/dtype.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "tests/support/thrown.h"

using namespace bdh;

namespace {

// A format of 16 bits by its numbers.
struct Format {
  int fraction_bits;
  int min_exponent;  // of the smallest normal number
  int max_exponent;
};
constexpr Format kF16 = {10, -14, 15};
constexpr Format kBF16 = {7, -126, 127};

double value_of(uint16_t bits, Format format) {
  const int exponent_bits = 15 - format.fraction_bits;
  const int exponent = (bits & 0x7fff) >> format.fraction_bits;
  const int fraction = bits & ((1 << format.fraction_bits) - 1);
  double magnitude;
  if (exponent == (1 << exponent_bits) - 1) {
    magnitude = fraction != 0 ? std::nan("") : INFINITY;
  } else if (exponent == 0) {
    magnitude = std::ldexp(fraction, format.min_exponent - format.fraction_bits);
  } else {
    magnitude =
        std::ldexp(1 + std::ldexp(fraction, -format.fraction_bits), exponent - 1 + format.min_exponent);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

// The value rounded to the format, by scaling its last place to 1 and rounding to an even whole number.
double rounded(double value, Format format) {
  if (!std::isfinite(value) || value == 0) return value;
  const int exponent = std::max(std::ilogb(value), format.min_exponent);
  const int last_place = exponent - format.fraction_bits;
  const double result = std::ldexp(std::nearbyint(std::ldexp(value, -last_place)), last_place);
  return std::abs(result) >= std::ldexp(1.0, format.max_exponent + 1) ? std::copysign(INFINITY, value)
                                                                      : result;
}

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || (a == b && std::signbit(a) == std::signbit(b));
}

template <class To, class From>
std::vector<To> converted_values(DType from_dtype, const std::vector<From>& from, DType to_dtype) {
  std::vector<To> to(from.size());
  convert(from_dtype, from.data(), to_dtype, to.data(), from.size());
  return to;
}

// Every 16-bit number, halfway points between neighbours, and just beside those.
std::vector<double> hard_values(Format format) {
  std::vector<double> values;
  for (int bits = 0; bits < 0xffff; ++bits) {
    const double low = value_of(static_cast<uint16_t>(bits), format);
    const double high = value_of(static_cast<uint16_t>(bits + 1), format);
    const double middle = low / 2 + high / 2;
    values.insert(values.end(),
                  {low, middle, std::nextafter(middle, INFINITY), std::nextafter(middle, -INFINITY)});
  }
  const double largest = std::ldexp(2 - std::ldexp(1, -format.fraction_bits), format.max_exponent);
  const double limit = std::ldexp(2 - std::ldexp(1, -format.fraction_bits - 1), format.max_exponent);
  values.insert(values.end(),
                {largest, limit, std::nextafter(limit, 0), -limit, 1e300, -1e300, 5e-324, INFINITY});
  return values;
}

int count_wrong(const std::vector<double>& values, const std::vector<uint16_t>& results, Format format) {
  int wrong = 0;
  for (size_t i = 0; i < values.size(); ++i)
    wrong += !same(value_of(results[i], format), rounded(values[i], format));
  return wrong;
}

}  // namespace

TEST_CASE("dtype: names and sizes") {
  CHECK(name_of(DType::bf16) == "BF16");
  CHECK(torch_name_of(DType::bf16) == "bfloat16");
  CHECK(torch_name_of(DType::i8) == "I8");
  CHECK(size_of(DType::f64) == 8);
  CHECK(size_of(DType::i16) == 2);
  CHECK(size_of(DType::f8_e5m2fnuz) == 1);
  for (int i = 0; i <= static_cast<int>(DType::f8_e5m2fnuz); ++i) {
    const auto dtype = static_cast<DType>(i);
    CHECK(dtype_from_name(name_of(dtype)) == dtype);
  }
  CHECK_FALSE(dtype_from_name("f32").has_value());
  CHECK_FALSE(dtype_from_name("").has_value());
  CHECK_FALSE(dtype_from_name("F320").has_value());
  CHECK(dtype_from_option("BFloat16") == DType::bf16);
  CHECK(dtype_from_option("f16") == DType::f16);
  CHECK(dtype_from_option("float32") == DType::f32);
  CHECK_FALSE(dtype_from_option("f64").has_value());
  CHECK(is_weight_dtype(DType::f64));
  CHECK_FALSE(is_weight_dtype(DType::f8_e4m3));
}

TEST_CASE("dtype: every 16-bit float widens to its value and comes back") {
  int wrong = 0;
  for (int i = 0; i <= 0xffff; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const float half = f16_to_f32(bits);
    const float brain = bf16_to_f32(bits);
    wrong += !same(half, value_of(bits, kF16)) + !same(brain, value_of(bits, kBF16));
    wrong += std::isnan(half) ? !std::isnan(f16_to_f32(f32_to_f16(half))) : f32_to_f16(half) != bits;
    wrong += std::isnan(brain) ? !std::isnan(bf16_to_f32(f32_to_bf16(brain))) : f32_to_bf16(brain) != bits;
  }
  CHECK(wrong == 0);
}

TEST_CASE("dtype: float32 rounds to nearest even") {
  std::mt19937 random(1);
  std::vector<float> floats;
  for (const double value : hard_values(kF16)) floats.push_back(static_cast<float>(value));
  for (int i = 0; i < 200000; ++i) floats.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
  const std::vector<double> values(floats.begin(), floats.end());
  CHECK(count_wrong(values, converted_values<uint16_t>(DType::f32, floats, DType::f16), kF16) == 0);
  CHECK(count_wrong(values, converted_values<uint16_t>(DType::f32, floats, DType::bf16), kBF16) == 0);
  int differ = 0;
  for (size_t i = 0; i < floats.size(); i += 7) {
    differ += !same(value_of(f32_to_f16(floats[i]), kF16), rounded(floats[i], kF16));
    differ += !same(value_of(f32_to_bf16(floats[i]), kBF16), rounded(floats[i], kBF16));
  }
  CHECK(differ == 0);
}

TEST_CASE("dtype: float64 is rounded once, not by way of float32") {
  const std::vector<double> halves = hard_values(kF16);
  CHECK(count_wrong(halves, converted_values<uint16_t>(DType::f64, halves, DType::f16), kF16) == 0);
  const std::vector<double> brains = hard_values(kBF16);
  CHECK(count_wrong(brains, converted_values<uint16_t>(DType::f64, brains, DType::bf16), kBF16) == 0);
}

TEST_CASE("dtype: NaN, infinity and overflow") {
  const float nan = std::bit_cast<float>(0x7f800001u);  // its payload is lost by truncation
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(nan))));
  CHECK(std::isnan(f16_to_f32(f32_to_f16(nan))));
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0xffffffffu)))));
  CHECK(f32_to_f16(65504) == 0x7bff);
  CHECK(f32_to_f16(65519.996f) == 0x7bff);
  CHECK(f32_to_f16(65520) == 0x7c00);
  CHECK(f32_to_f16(-1e30f) == 0xfc00);
  CHECK(f32_to_f16(0x1p-25f) == 0);
  CHECK(f32_to_f16(std::nextafter(0x1p-25f, 1.0f)) == 1);
  CHECK(f32_to_f16(-0.0f) == 0x8000);
  CHECK(f32_to_bf16(std::numeric_limits<float>::max()) == 0x7f80);
  CHECK(f32_to_bf16(-0.0f) == 0x8000);
}

TEST_CASE("dtype: convert between all weight types, from unaligned memory") {
  const std::vector<double> values = {0, -0.0, 1, -2.5, 1024, 0.15625, INFINITY};
  constexpr DType kTypes[] = {DType::f64, DType::f32, DType::f16, DType::bf16};
  for (const DType from : kTypes) {
    std::vector<std::byte> stored(values.size() * size_of(from) + 1);
    std::vector<std::byte> aligned(values.size() * size_of(from));
    convert(DType::f64, values.data(), from, aligned.data(), values.size());
    std::memcpy(stored.data() + 1, aligned.data(), aligned.size());
    for (const DType to : kTypes) {
      std::vector<std::byte> result(values.size() * size_of(to));
      convert(from, stored.data() + 1, to, result.data(), values.size());
      std::vector<double> back(values.size());
      convert(to, result.data(), DType::f64, back.data(), values.size());
      for (size_t i = 0; i < values.size(); ++i) CHECK(same(back[i], values[i]));
    }
  }
}

TEST_CASE("dtype: other types do not convert") {
  int64_t number = 1;
  double result = 0;
  const auto thrown = test::thrown_by([&] { convert(DType::i64, &number, DType::f64, &result, 1); });
  CHECK(thrown.kind == ErrorKind::unsupported);
  CHECK(thrown.says("I64"));
  CHECK(test::thrown_by([&] { convert(DType::f32, &number, DType::u8, &result, 1); }).kind ==
        ErrorKind::unsupported);
}
