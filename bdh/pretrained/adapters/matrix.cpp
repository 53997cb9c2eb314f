// Checks of an adapter's matrices, and copies of their numbers.
#include "bdh/pretrained/adapters/matrix.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/pretrained/convert.h"

namespace bdh {

void require_shape(const AdapterMatrix& matrix, const Shape& shape, const std::string& source) {
  if (matrix.tensor.shape != shape)
    fail(ErrorKind::bad_file, source, ": tensor ", printable(matrix.name), " has shape ",
         to_string(matrix.tensor.shape), " where this model and r want ", to_string(shape));
  if (!is_weight_dtype(matrix.tensor.dtype))
    fail(ErrorKind::bad_file, source, ": tensor ", printable(matrix.name), " is ",
         name_of(matrix.tensor.dtype), ", not a tensor of floats");
}

Tensor viewed(const AdapterMatrix& matrix, Shape shape, Shape strides, const std::string& source) {
  Tensor view = matrix.tensor;
  view.shape = std::move(shape);
  view.strides = std::move(strides);
  const Tensor floats = converted(view, DType::f32);
  std::byte* bytes = nullptr;
  Tensor own = make_tensor(DType::f32, view.shape, &bytes);
  copy_row_major(floats, 0, floats.numel(), bytes);
  const auto* values = reinterpret_cast<const float*>(own.data);
  if (!std::all_of(values, values + own.numel(), [](float value) { return std::isfinite(value); }))
    fail(ErrorKind::bad_file, source, ": tensor ", printable(matrix.name),
         " holds a number that is not finite");
  return own;
}

Tensor floats_of(const AdapterMatrix& matrix, const std::string& source) {
  return viewed(matrix, matrix.tensor.shape, matrix.tensor.strides, source);
}

}  // namespace bdh
