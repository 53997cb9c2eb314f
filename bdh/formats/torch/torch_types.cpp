// PyTorch's names for element types, in one table.
#include "bdh/formats/torch/torch_types.h"

#include <algorithm>
#include <array>

namespace bdh {
namespace {

struct Entry {
  TorchTypeName name;
  DType dtype;
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
};

struct StorageSize {
  std::string_view storage;
  size_t bytes;
};

// Those of types that this library has no tensors of.
constexpr std::array kOtherStorages = {
    StorageSize{kUntypedStorage, 1},
    StorageSize{"torch.ComplexFloatStorage", 8},
    StorageSize{"torch.ComplexDoubleStorage", 16},
    StorageSize{"torch.QInt8Storage", 1},
    StorageSize{"torch.QInt32Storage", 4},
    StorageSize{"torch.QUInt8Storage", 1},
    StorageSize{"torch.QUInt4x2Storage", 1},
    StorageSize{"torch.QUInt2x4Storage", 1},
};

const Entry* find(std::string_view name) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(), [&](const Entry& entry) {
    return entry.name.dtype == name || (!name.empty() && entry.name.storage == name);
  });
  return found == kTypes.end() ? nullptr : &*found;
}

}  // namespace

std::optional<DType> dtype_of_torch_type(std::string_view name) {
  const Entry* entry = find(name);
  return entry == nullptr ? std::nullopt : std::optional(entry->dtype);
}

std::optional<size_t> size_of_torch_storage(std::string_view name) {
  if (const std::optional<DType> known = dtype_of_torch_type(name)) return size_of(*known);
  const auto found = std::find_if(kOtherStorages.begin(), kOtherStorages.end(),
                                  [&](const StorageSize& other) { return other.storage == name; });
  return found == kOtherStorages.end() ? std::nullopt : std::optional(found->bytes);
}

TorchTypeName torch_type_name(DType dtype) {
  const auto found =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const Entry& entry) { return entry.dtype == dtype; });
  return found->name;
}

}  // namespace bdh
