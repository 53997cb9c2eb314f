// Packed layout: rows padded, encoders seen as rows, and both the other way.
#include "bdh/model/packed_layout.h"

#include <utility>

#include "bdh/base/error.h"
#include "bdh/model/quantization.h"
#include "bdh/model/weights.h"

namespace bdh {

namespace {

constexpr int64_t kUnit = 16;           // numbers of float rows
constexpr int64_t kQuantizedUnit = 64;  // numbers of quantized rows

bool is_encoder(std::string_view name) { return name.starts_with("encoder"); }

int64_t rounded_up(int64_t count, int64_t unit) { return (count + unit - 1) / unit * unit; }

/// What a row's last dimension is a multiple of; 1: it has no padding.
int64_t unit_of(std::string_view name, int64_t bits) {
  const bool scales = name.ends_with(kScales);
  if (name == kFreqs || (bits == 8 && scales)) return 1;
  if (bits == 8) return kQuantizedUnit;
  if (bits == 4) return scales ? kQuantizedUnit / kQuantizationGroup : kQuantizedUnit / 2;
  return name.starts_with("embed") ? 1 : kUnit;
}

/// (H, D, N) as (H, N, D), the same memory.
Tensor transposed(Tensor tensor) {
  const size_t last = tensor.shape.size() - 1;
  std::swap(tensor.shape[last], tensor.shape[last - 1]);
  std::swap(tensor.strides[last], tensor.strides[last - 1]);
  return tensor;
}

Tensor padded(const Tensor& rows, const Shape& shape) {
  std::byte* data = nullptr;
  Tensor result = make_tensor(rows.dtype, shape, &data);
  const int64_t width = rows.shape.back();
  const size_t stride = static_cast<size_t>(shape.back()) * size_of(rows.dtype);
  for (int64_t i = 0; i < rows.numel() / width; ++i)
    copy_row_major(rows, i * width, width, data + static_cast<size_t>(i) * stride);
  return result;
}

Tensor packed_tensor(const std::string& name, const Tensor& tensor, int64_t bits) {
  const Tensor rows = bits == 0 && is_encoder(name) ? transposed(tensor) : tensor;
  const Shape shape = packed_shape(name, tensor.shape, bits);
  return rows.shape == shape ? rows : padded(rows, shape);
}

/// The packed tensor without its padding.
Tensor unpacked_tensor(const std::string& name, Tensor packed, const Shape& shape, int64_t bits) {
  const bool columns = bits == 0 && is_encoder(name);
  if (columns) packed = transposed(std::move(packed));
  packed.shape = shape;
  return packed;
}

const Tensor& find_packed(const TensorMap& tensors, const std::string& name, const Shape& shape,
                          const std::string& source) {
  const auto found = tensors.find(name);
  if (found == tensors.end())
    fail(ErrorKind::bad_file, source, ": tensor '", name, "' is missing, and config.json says that the ",
         "weights are packed; the two belong to different models");
  if (found->second.shape != shape)
    fail(ErrorKind::bad_file, source, ": tensor '", name, "' has shape ", to_string(found->second.shape),
         ", but config.json, which says that the weights are packed, makes it ", to_string(shape),
         "; the two belong to different models");
  return found->second;
}

}  // namespace

Config with_packed(Config config, bool packed) {
  config.packed = packed;
  return config;
}

std::string packed_name(const std::string& name, int64_t bits) {
  return bits == 0 && is_encoder(name) ? concat(name, kRows) : name;
}

Shape packed_shape(const std::string& name, Shape shape, int64_t bits) {
  if (bits == 0 && is_encoder(name)) std::swap(shape[shape.size() - 1], shape[shape.size() - 2]);
  shape.back() = rounded_up(shape.back(), unit_of(name, bits));
  return shape;
}

TensorMap packed_state_dict(const Config& config, const TensorMap& state_dict) {
  TensorMap packed;
  for (const auto& [name, shape] : parameter_shapes(config))
    packed.emplace(packed_name(name, config.weight_bits),
                   packed_tensor(name, state_dict.at(name), config.weight_bits));
  return packed;
}

TensorMap unpacked_state_dict(const Config& config, const TensorMap& state_dict, const std::string& source) {
  TensorMap tensors = state_dict;
  const int64_t bits = config.weight_bits;
  for (const auto& [name, shape] : parameter_shapes(with_packed(config, false))) {
    const std::string stored = packed_name(name, bits);
    if (name == kFreqs) continue;
    const Tensor packed = find_packed(state_dict, stored, packed_shape(name, shape, bits), source);
    if (stored != name && state_dict.contains(name))
      fail(ErrorKind::bad_file, source, ": tensors '", name, "' and '", stored, "' are one parameter in two ",
           "layouts; keep the one that config.json speaks of");
    tensors.erase(stored);
    tensors[name] = unpacked_tensor(name, packed, shape, bits);
  }
  return tensors;
}

}  // namespace bdh
