// Tables of element types and the loops that convert between the floating-point ones.
#include "bdh/base/dtype.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>

#include "bdh/base/error.h"

namespace bdh {
namespace {

struct DTypeEntry {
  DType dtype;
  size_t size;
  std::string_view name;
};

// In the order of the enumeration, so that a type indexes its entry.
constexpr std::array<DTypeEntry, 15> kDTypes = {{
    {DType::f64, 8, "F64"},
    {DType::f32, 4, "F32"},
    {DType::f16, 2, "F16"},
    {DType::bf16, 2, "BF16"},
    {DType::i64, 8, "I64"},
    {DType::i32, 4, "I32"},
    {DType::i16, 2, "I16"},
    {DType::i8, 1, "I8"},
    {DType::u8, 1, "U8"},
    {DType::boolean, 1, "BOOL"},
    {DType::f8_e4m3, 1, "F8_E4M3"},
    {DType::f8_e5m2, 1, "F8_E5M2"},
    {DType::f8_e8m0, 1, "F8_E8M0"},
    {DType::f8_e4m3fnuz, 1, "F8_E4M3FNUZ"},
    {DType::f8_e5m2fnuz, 1, "F8_E5M2FNUZ"},
}};

const DTypeEntry& entry_of(DType dtype) { return kDTypes[static_cast<size_t>(dtype)]; }

// Float32 bit patterns.
constexpr uint32_t kSignBit = 0x80000000;
constexpr uint32_t kInfinity = 0x7f800000;
constexpr uint32_t kF16Overflow = 0x47800000;   // 65536: from here on a half is infinite whatever is rounded
constexpr uint32_t kF16MinNormal = 0x38800000;  // 2^-14: below it halves are subnormal, multiples of 2^-24
constexpr uint32_t kExponentShift = 112 << 23;  // difference of the exponents' biases, 127 - 15

// Without a branch, so that loops vectorise: compilers turn ?: into one when an operand is costly.
inline uint32_t select(bool condition, uint32_t yes, uint32_t no) {
  const uint32_t mask = 0u - static_cast<uint32_t>(condition);
  return (yes & mask) | (no & ~mask);
}

inline uint16_t narrow_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & ~kSignBit;
  const uint32_t sign = (bits & kSignBit) >> 16;
  const uint32_t odd = (magnitude >> 13) & 1;
  const uint32_t normal = (magnitude - kExponentShift + 0xfff + odd) >> 13;
  // Floats in [0.5, 1) are spaced 2^-24: the addition rounds to a multiple of it.
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - std::bit_cast<uint32_t>(0.5f);
  const uint32_t nan = 0x7e00 | ((magnitude >> 13) & 0x3ff);
  uint32_t half = select(magnitude < kF16MinNormal, subnormal, normal);
  half = select(magnitude >= kF16Overflow, 0x7c00, half);
  half = select(magnitude > kInfinity, nan, half);
  return static_cast<uint16_t>(sign | half);
}

inline float widen_f16(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t magnitude = half & 0x7fff;
  const uint32_t normal = (magnitude << 13) + kExponentShift;
  const uint32_t infinite = (magnitude << 13) | kInfinity;
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f);
  uint32_t bits = select(magnitude < 0x400, subnormal, normal);
  bits = select(magnitude >= 0x7c00, infinite, bits);
  return std::bit_cast<float>(sign | bits);
}

inline uint16_t narrow_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = bits + 0x7fff + ((bits >> 16) & 1);
  const uint32_t quiet_nan = bits | 0x400000;
  return static_cast<uint16_t>(select((bits & ~kSignBit) > kInfinity, quiet_nan, rounded) >> 16);
}

// The float next to value towards zero, its last bit set unless exact: a second rounding to fewer bits is
// then the same as one rounding of value.
inline float round_to_odd(double value) {
  const float nearest = static_cast<float>(value);
  const double back = static_cast<double>(nearest);
  const uint32_t bits = std::bit_cast<uint32_t>(nearest);
  const uint32_t truncated = bits - static_cast<uint32_t>(std::abs(back) > std::abs(value));
  return std::bit_cast<float>(truncated | static_cast<uint32_t>(back != value));
}

struct F64 {
  using Stored = double;
};
struct F32 {
  using Stored = float;
};
struct F16 {
  using Stored = uint16_t;
};
struct BF16 {
  using Stored = uint16_t;
};

template <class From>
inline auto widen(typename From::Stored stored) {
  if constexpr (std::is_same_v<From, F16>)
    return widen_f16(stored);
  else if constexpr (std::is_same_v<From, BF16>)
    return bf16_to_f32(stored);
  else
    return stored;
}

template <class To>
inline typename To::Stored narrow(float value) {
  if constexpr (std::is_same_v<To, F16>)
    return narrow_to_f16(value);
  else if constexpr (std::is_same_v<To, BF16>)
    return narrow_to_bf16(value);
  else
    return value;
}

template <class To>
inline typename To::Stored narrow(double value) {
  if constexpr (std::is_same_v<To, F64>)
    return value;
  else if constexpr (std::is_same_v<To, F32>)
    return static_cast<float>(value);
  else
    return narrow<To>(round_to_odd(value));
}

template <class From, class To>
void convert_loop(const void* from, void* to, size_t count) {
  const auto* source = static_cast<const std::byte*>(from);
  auto* target = static_cast<std::byte*>(to);
  for (size_t i = 0; i < count; ++i) {
    typename From::Stored stored;
    std::memcpy(&stored, source + i * sizeof stored, sizeof stored);
    const typename To::Stored result = narrow<To>(widen<From>(stored));
    std::memcpy(target + i * sizeof result, &result, sizeof result);
  }
}

template <class From>
void convert_from(const void* from, DType to_dtype, void* to, size_t count) {
  switch (to_dtype) {
    case DType::f64:
      return convert_loop<From, F64>(from, to, count);
    case DType::f32:
      return convert_loop<From, F32>(from, to, count);
    case DType::f16:
      return convert_loop<From, F16>(from, to, count);
    default:
      return convert_loop<From, BF16>(from, to, count);
  }
}

}  // namespace

size_t size_of(DType dtype) { return entry_of(dtype).size; }

std::string_view name_of(DType dtype) { return entry_of(dtype).name; }

std::string_view torch_name_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return "float64";
    case DType::f32:
      return "float32";
    case DType::f16:
      return "float16";
    case DType::bf16:
      return "bfloat16";
    default:
      return name_of(dtype);
  }
}

std::optional<DType> dtype_from_name(std::string_view name) {
  for (const DTypeEntry& entry : kDTypes) {
    if (entry.name == name) return entry.dtype;
  }
  return std::nullopt;
}

std::optional<DType> dtype_from_option(std::string_view option) {
  std::string lower(option);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (lower == "f32" || lower == "float32") return DType::f32;
  if (lower == "bf16" || lower == "bfloat16") return DType::bf16;
  if (lower == "f16" || lower == "float16") return DType::f16;
  return std::nullopt;
}

bool is_weight_dtype(DType dtype) {
  return dtype == DType::f64 || dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16;
}

float f16_to_f32(uint16_t bits) { return widen_f16(bits); }
uint16_t f32_to_bf16(float value) { return narrow_to_bf16(value); }
uint16_t f32_to_f16(float value) { return narrow_to_f16(value); }

void convert(DType from_dtype, const void* from, DType to_dtype, void* to, size_t count) {
  if (!is_weight_dtype(from_dtype) || !is_weight_dtype(to_dtype)) {
    fail(ErrorKind::unsupported, "cannot convert ", name_of(from_dtype), " to ", name_of(to_dtype),
         ": only F64, F32, F16 and BF16 convert into one another");
  }
  if (count == 0) return;
  if (from_dtype == to_dtype) {
    std::memcpy(to, from, count * size_of(from_dtype));
    return;
  }
  switch (from_dtype) {
    case DType::f64:
      return convert_from<F64>(from, to_dtype, to, count);
    case DType::f32:
      return convert_from<F32>(from, to_dtype, to, count);
    case DType::f16:
      return convert_from<F16>(from, to_dtype, to, count);
    default:
      return convert_from<BF16>(from, to_dtype, to, count);
  }
}

}  // namespace bdh
