// Tensors of known bytes, and tensors compared.
#include "tests/support/tensors.h"

#include <utility>

namespace bdh::test {

Tensor patterned(DType dtype, Shape shape) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(dtype, std::move(shape), &data);
  for (size_t i = 0; i < tensor.bytes(); ++i) {
    data[i] = static_cast<std::byte>(dtype == DType::boolean ? i % 2 : (i * 37 + 11) % 256);
  }
  return tensor;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.dtype == b.dtype && a.shape == b.shape && std::memcmp(a.data, b.data, a.bytes()) == 0;
}

bool same_bits(const TensorMap& a, const TensorMap& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    const auto other = b.find(name);
    if (other == b.end() || !same_bits(tensor, other->second)) return false;
  }
  return true;
}

}  // namespace bdh::test
