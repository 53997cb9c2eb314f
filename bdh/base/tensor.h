// Tensor: a typed, shaped, strided view of memory that somebody owns. A value: no operators, no autograd.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bdh/base/dtype.h"

namespace bdh {

using Shape = std::vector<int64_t>;

/// Where a tensor's memory is.
struct Device {
  enum class Kind : uint8_t { cpu, cuda };
  Kind kind = Kind::cpu;
  int index = 0;
  bool operator==(const Device&) const = default;
};

struct Tensor {
  DType dtype = DType::f32;
  Shape shape;    // empty: a scalar
  Shape strides;  // in elements, one for each dimension
  Device device;
  const std::byte* data = nullptr;    // first element; may be unaligned when it points into a mapped file
  std::shared_ptr<const void> owner;  // heap block, file mapping or device allocation that data lies in
  /// Set by whoever mapped the file that data lies in: gives back pages, which are read again when touched.
  void (*give_back)(std::span<const std::byte>) = nullptr;

  /// Elements; 1 for a scalar.
  int64_t numel() const;
  /// Bytes of its elements, without holes. Throws as byte_size.
  size_t bytes() const;
  /// Row-major without holes.
  bool contiguous() const;
};

/// Row-major strides for a shape.
Shape contiguous_strides(const Shape& shape);

/// Product of the dimensions; 0 where one is 0. Throws Error(invalid_argument) if one is negative or the
/// product exceeds int64.
int64_t element_count(const Shape& shape);

/// Bytes of that many elements without holes. Throws as element_count, and when the bytes exceed int64.
size_t byte_size(DType dtype, const Shape& shape);

/// A zeroed, row-major heap tensor; *data receives its writable memory.
Tensor make_tensor(DType dtype, Shape shape, std::byte** data);

/// Copies the elements [first, first + count) in row-major order, packed together, to `out`.
void copy_row_major(const Tensor& tensor, int64_t first, int64_t count, std::byte* out);

/// Says that data[begin, begin + bytes) is not needed soon; memory that can be read again is given back.
void release(const Tensor& tensor, size_t begin, size_t bytes);

/// The same values, row-major, as `dtype`; shares memory when nothing changes.
Tensor converted(const Tensor& tensor, DType dtype);

/// "(4, 128, 1024)"
std::string to_string(const Shape& shape);

/// Tensors by name, as a state_dict is.
using TensorMap = std::map<std::string, Tensor>;

}  // namespace bdh
