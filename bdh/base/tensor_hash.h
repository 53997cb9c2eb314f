// SHA-256 of tensors.
#pragma once

#include <string>

#include "bdh/base/tensor.h"

namespace bdh {

/// Of names, dtypes, shapes and elements, in the order of names: 64 hexadecimal digits, the same however the
/// tensors lie in files. Pages of mapped files are given back. Throws Error(invalid_argument) for tensors
/// that are not in CPU memory.
std::string hash_of(const TensorMap& tensors);

}  // namespace bdh
