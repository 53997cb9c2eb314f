// PyTorch's names for element types.
#pragma once

#include <optional>
#include <string_view>

#include "bdh/base/dtype.h"

namespace bdh {

/// The type that a storage type or dtype of that full name ("torch.HalfStorage", "torch.float16") has, or
/// nothing.
std::optional<DType> dtype_of_torch_type(std::string_view name);
/// Bytes of an element of that storage type, known to this library or not: 1 for untyped ones; or nothing.
std::optional<size_t> size_of_torch_storage(std::string_view name);

/// What a type is saved as.
struct TorchTypeName {
  std::string_view dtype;    // "torch.float16"
  std::string_view storage;  // "torch.HalfStorage"; empty for types that are saved as untyped storages
};
TorchTypeName torch_type_name(DType dtype);

/// The type of storages that leave the dtype to the tensor: bytes.
inline constexpr std::string_view kUntypedStorage = "torch.storage.UntypedStorage";

}  // namespace bdh
