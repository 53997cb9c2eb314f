// PyTorch's names for element types.
#pragma once

#include <optional>
#include <string_view>

#include "bdh/base/dtype.h"

namespace bdh {

/// The name itself, as a constant, if it is the full name of a storage type or dtype of PyTorch
/// ("torch.HalfStorage", "torch.float16"), known to this library or not; else nothing.
std::optional<std::string_view> torch_type(std::string_view name);

/// The type that a storage type or dtype of that full name has, or nothing.
std::optional<DType> dtype_of_torch_type(std::string_view name);

/// What a type is saved as.
struct TorchTypeName {
  std::string_view dtype;    // "torch.float16"
  std::string_view storage;  // "torch.HalfStorage"; empty for types that are saved as untyped storages
};
TorchTypeName torch_type_name(DType dtype);

/// The type of storages that leave the dtype to the tensor: bytes.
inline constexpr std::string_view kUntypedStorage = "torch.storage.UntypedStorage";

}  // namespace bdh
