// Tensors that tests make up, and whether two are the same.
#pragma once

#include <cstring>
#include <vector>

#include "bdh/base/tensor.h"

namespace bdh::test {

/// The bytes that tests/parity/safetensors_parity.py gives the same tensor.
Tensor patterned(DType dtype, Shape shape);

/// The elements of a contiguous tensor whose dtype is T.
template <class T>
std::vector<T> values(const Tensor& tensor) {
  std::vector<T> out(static_cast<size_t>(tensor.numel()));
  std::memcpy(out.data(), tensor.data, tensor.bytes());
  return out;
}

/// Dtype, shape and every bit; both contiguous.
bool same_bits(const Tensor& a, const Tensor& b);
/// The same names, too.
bool same_bits(const TensorMap& a, const TensorMap& b);

}  // namespace bdh::test
