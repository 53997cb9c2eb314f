// Element types of tensors, their names on disk, and conversions between the floating-point ones.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace bdh {

/// The element types of the safetensors format that this library knows.
enum class DType : uint8_t {
  f64,
  f32,
  f16,
  bf16,
  i64,
  i32,
  i16,
  i8,
  u8,
  boolean,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
};

/// Bytes of one element.
size_t size_of(DType dtype);

/// The name safetensors gives the type: "F32", "BF16", "F8_E4M3", ...
std::string_view name_of(DType dtype);

/// The name PyTorch gives a type that weights may have, "float32" or "bfloat16"; name_of for others.
std::string_view torch_name_of(DType dtype);

/// The type with that safetensors name, or nothing.
std::optional<DType> dtype_from_name(std::string_view name);

/// The type a user means by "f32", "float32", "bf16", "bfloat16", "f16", "float16" (any case), or nothing.
std::optional<DType> dtype_from_option(std::string_view option);

/// f64, f32, f16 and bf16: the types weights may have.
bool is_weight_dtype(DType dtype);

inline float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }
float f16_to_f32(uint16_t bits);
/// Round to nearest, ties to even; NaN stays NaN.
uint16_t f32_to_bf16(float value);
uint16_t f32_to_f16(float value);

/// Converts count elements between f64, f32, f16 and bf16, rounding to nearest even.
/// Throws Error(unsupported) for other types. `from` may be unaligned.
void convert(DType from_dtype, const void* from, DType to_dtype, void* to, size_t count);

}  // namespace bdh
