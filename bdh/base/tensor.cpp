// Shapes, strides and copies of tensors.
#include "bdh/base/tensor.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string_view>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"

namespace bdh {
namespace {

constexpr int64_t kChunkElements = 8192;

template <size_t kSize>
void copy_strided(const std::byte* from, ptrdiff_t step, int64_t count, std::byte* to) {
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(to + i * static_cast<ptrdiff_t>(kSize), from + i * step, kSize);
}

// count elements, `stride` elements apart, packed together.
void copy_run(const std::byte* from, int64_t stride, size_t size, int64_t count, std::byte* to) {
  const ptrdiff_t step = stride * static_cast<ptrdiff_t>(size);
  if (stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(count) * size);
    return;
  }
  switch (size) {
    case 1:
      return copy_strided<1>(from, step, count, to);
    case 2:
      return copy_strided<2>(from, step, count, to);
    case 4:
      return copy_strided<4>(from, step, count, to);
    default:
      return copy_strided<8>(from, step, count, to);
  }
}

// The index of the element that comes at `position` in row-major order.
Shape index_at(const Shape& shape, int64_t position) {
  Shape index(shape.size());
  for (size_t d = shape.size(); d-- > 0;) {
    index[d] = position % shape[d];
    position /= shape[d];
  }
  return index;
}

int64_t offset_of(const Shape& index, const Shape& strides) {
  int64_t offset = 0;
  for (size_t d = 0; d < index.size(); ++d) offset += index[d] * strides[d];
  return offset;
}

// Moves the index past the end of its row, to the start of the next.
void next_row(Shape& index, const Shape& shape) {
  index.back() = 0;
  for (size_t d = index.size() - 1; d-- > 0;) {
    if (++index[d] < shape[d]) return;
    index[d] = 0;
  }
}

void require_cpu(const Tensor& tensor) {
  if (tensor.device.kind != Device::Kind::cpu) {
    fail(ErrorKind::invalid_argument, "the tensor of shape ", to_string(tensor.shape),
         " is not in CPU memory; copy it there first");
  }
}

}  // namespace

int64_t Tensor::numel() const { return element_count(shape); }

size_t Tensor::bytes() const { return byte_size(dtype, shape); }

bool Tensor::contiguous() const {
  int64_t expected = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    if (shape[d] == 0) return true;
    if (shape[d] != 1 && strides[d] != expected) return false;
    expected *= shape[d];
  }
  return true;
}

Shape contiguous_strides(const Shape& shape) {
  element_count(shape);
  Shape strides(shape.size());
  int64_t stride = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    strides[d] = stride;
    const int64_t factor = std::max<int64_t>(shape[d], 1);
    if (__builtin_mul_overflow(stride, factor, &stride)) stride = 1;  // an empty tensor: nothing is reached
  }
  return strides;
}

int64_t element_count(const Shape& shape) {
  for (const int64_t dimension : shape) {
    if (dimension < 0)
      fail(ErrorKind::invalid_argument, "shape ", to_string(shape), " has a negative dimension");
  }
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  int64_t count = 1;
  for (const int64_t dimension : shape) {
    if (__builtin_mul_overflow(count, dimension, &count)) {
      fail(ErrorKind::invalid_argument, "shape ", to_string(shape),
           " has more elements than 64 bits can count");
    }
  }
  return count;
}

size_t byte_size(DType dtype, const Shape& shape) {
  const auto count = static_cast<size_t>(element_count(shape));
  if (count > static_cast<size_t>(std::numeric_limits<int64_t>::max()) / size_of(dtype)) {
    fail(ErrorKind::invalid_argument, "shape ", to_string(shape), " of ", name_of(dtype),
         " has more bytes than 64 bits can count");
  }
  return count * size_of(dtype);
}

Tensor make_tensor(DType dtype, Shape shape, std::byte** data) {
  const std::shared_ptr<std::byte> memory =
      allocate_zeroed(byte_size(dtype, shape), concat("a tensor of shape ", to_string(shape)));
  Tensor tensor;
  tensor.dtype = dtype;
  tensor.strides = contiguous_strides(shape);
  tensor.shape = std::move(shape);
  tensor.data = memory.get();
  tensor.owner = memory;
  *data = memory.get();
  return tensor;
}

void copy_row_major(const Tensor& tensor, int64_t first, int64_t count, std::byte* out) {
  require_cpu(tensor);
  if (count == 0) return;
  const size_t size = size_of(tensor.dtype);
  if (tensor.contiguous()) {
    std::memcpy(out, tensor.data + first * static_cast<int64_t>(size), static_cast<size_t>(count) * size);
    return;
  }
  Shape index = index_at(tensor.shape, first);
  while (count > 0) {
    const int64_t run = std::min(count, tensor.shape.back() - index.back());
    const std::byte* start = tensor.data + offset_of(index, tensor.strides) * static_cast<int64_t>(size);
    copy_run(start, tensor.strides.back(), size, run, out);
    out += run * static_cast<int64_t>(size);
    count -= run;
    next_row(index, tensor.shape);
  }
}

void release(const Tensor& tensor, size_t begin, size_t bytes) {
  if (tensor.give_back) tensor.give_back({tensor.data + begin, bytes});
}

Tensor converted(const Tensor& tensor, DType dtype) {
  require_cpu(tensor);
  if (tensor.dtype == dtype && tensor.contiguous()) return tensor;
  std::byte* out = nullptr;
  Tensor result = make_tensor(dtype, tensor.shape, &out);
  const int64_t count = tensor.numel();
  if (tensor.dtype == dtype) {
    copy_row_major(tensor, 0, count, out);
  } else if (tensor.contiguous()) {
    convert(tensor.dtype, tensor.data, dtype, out, static_cast<size_t>(count));
  } else {
    std::array<std::byte, kChunkElements * sizeof(double)> chunk;
    for (int64_t first = 0; first < count; first += kChunkElements) {
      const int64_t length = std::min(kChunkElements, count - first);
      copy_row_major(tensor, first, length, chunk.data());
      convert(tensor.dtype, chunk.data(), dtype, out + first * static_cast<int64_t>(size_of(dtype)),
              static_cast<size_t>(length));
    }
  }
  return result;
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (size_t d = 0; d < shape.size(); ++d) {
    if (d > 0) text += ", ";
    text += std::to_string(shape[d]);
  }
  return text + ")";
}

}  // namespace bdh
