// PyTorch's names for element types, in one table.
#include "bdh/formats/torch/torch_types.h"

#include <algorithm>
#include <array>

namespace bdh {
namespace {

struct Entry {
  TorchTypeName name;
  std::optional<DType> dtype;
};

constexpr std::array kTypes = {
    Entry{{"torch.float64", "torch.DoubleStorage"}, DType::f64},
    Entry{{"torch.float32", "torch.FloatStorage"}, DType::f32},
    Entry{{"torch.float16", "torch.HalfStorage"}, DType::f16},
    Entry{{"torch.bfloat16", "torch.BFloat16Storage"}, DType::bf16},
    Entry{{"torch.int64", "torch.LongStorage"}, DType::i64},
    Entry{{"torch.int32", "torch.IntStorage"}, DType::i32},
    Entry{{"torch.int16", "torch.ShortStorage"}, DType::i16},
    Entry{{"torch.int8", "torch.CharStorage"}, DType::i8},
    Entry{{"torch.uint8", "torch.ByteStorage"}, DType::u8},
    Entry{{"torch.bool", "torch.BoolStorage"}, DType::boolean},
    Entry{{"torch.float8_e4m3fn", ""}, DType::f8_e4m3},
    Entry{{"torch.float8_e5m2", ""}, DType::f8_e5m2},
    Entry{{"torch.float8_e8m0fnu", ""}, DType::f8_e8m0},
    Entry{{"torch.float8_e4m3fnuz", ""}, DType::f8_e4m3fnuz},
    Entry{{"torch.float8_e5m2fnuz", ""}, DType::f8_e5m2fnuz},
    Entry{{"torch.complex64", "torch.ComplexFloatStorage"}, std::nullopt},
    Entry{{"torch.complex128", "torch.ComplexDoubleStorage"}, std::nullopt},
    Entry{{"torch.complex32", ""}, std::nullopt},
    Entry{{"torch.uint16", ""}, std::nullopt},
    Entry{{"torch.uint32", ""}, std::nullopt},
    Entry{{"torch.uint64", ""}, std::nullopt},
    Entry{{"torch.float4_e2m1fn_x2", ""}, std::nullopt},
    Entry{{"torch.qint8", "torch.QInt8Storage"}, std::nullopt},
    Entry{{"torch.qint32", "torch.QInt32Storage"}, std::nullopt},
    Entry{{"torch.quint8", "torch.QUInt8Storage"}, std::nullopt},
};

const Entry* find(std::string_view name) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(), [&](const Entry& entry) {
    return entry.name.dtype == name || (!name.empty() && entry.name.storage == name);
  });
  return found == kTypes.end() ? nullptr : &*found;
}

}  // namespace

std::optional<std::string_view> torch_type(std::string_view name) {
  if (name == kUntypedStorage) return kUntypedStorage;
  const Entry* entry = find(name);
  if (entry == nullptr) return std::nullopt;
  return entry->name.dtype == name ? entry->name.dtype : entry->name.storage;
}

std::optional<DType> dtype_of_torch_type(std::string_view name) {
  const Entry* entry = find(name);
  return entry == nullptr ? std::nullopt : entry->dtype;
}

TorchTypeName torch_type_name(DType dtype) {
  const auto found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const Entry& entry) { return entry.dtype == dtype; });
  return found->name;
}

}  // namespace bdh
