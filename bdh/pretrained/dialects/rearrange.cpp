// Tensors of other layouts, brought to the reference's: copies, one tensor at a time.
#include "bdh/pretrained/dialects/rearrange.h"

#include <cstring>
#include <utility>

namespace bdh {

Tensor transposed(const Tensor& matrix) {
  Tensor view = matrix;
  std::swap(view.shape[0], view.shape[1]);
  std::swap(view.strides[0], view.strides[1]);
  return view;
}

Tensor paired_halves(const Tensor& tensor, size_t axis, int64_t heads) {
  const Tensor packed = converted(tensor, tensor.dtype);
  std::byte* out = nullptr;
  Tensor result = make_tensor(tensor.dtype, tensor.shape, &out);
  size_t inner = size_of(tensor.dtype);
  for (size_t d = axis + 1; d < tensor.shape.size(); ++d) inner *= static_cast<size_t>(tensor.shape[d]);
  const auto rows = static_cast<size_t>(packed.numel()) * size_of(tensor.dtype) / inner;
  const auto neurons = static_cast<size_t>(tensor.shape[axis] / heads);
  for (size_t row = 0; row < rows; ++row) {
    const size_t head = row / neurons, place = row % neurons;
    const size_t from = head * neurons + place / 2 + (place % 2 == 0 ? 0 : neurons / 2);
    std::memcpy(out + row * inner, packed.data + from * inner, inner);
  }
  return result;
}

Tensor scaled(const Tensor& tensor, const std::vector<float>& factors, int64_t run) {
  std::vector<float> values = values_of(tensor);
  for (size_t i = 0; i < values.size(); ++i) values[i] *= factors[i / static_cast<size_t>(run)];
  return tensor_of(values, tensor.shape);
}

std::vector<float> values_of(const Tensor& tensor) {
  const Tensor floats = converted(tensor, DType::f32);
  std::vector<float> values(static_cast<size_t>(floats.numel()));
  std::memcpy(values.data(), floats.data, values.size() * sizeof(float));
  return values;
}

Tensor tensor_of(const std::vector<float>& values, const Shape& shape) {
  std::byte* data = nullptr;
  Tensor tensor = make_tensor(DType::f32, shape, &data);
  std::memcpy(data, values.data(), values.size() * sizeof(float));
  return tensor;
}

}  // namespace bdh
