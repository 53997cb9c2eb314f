// Quantization: rounding rows to integers with scales, and back.
#include "bdh/model/quantization.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/model/weights.h"

namespace bdh {

namespace {

constexpr float kLargestOf8 = 127, kLargestOf4 = 7, kSmallestOf4 = -8;
constexpr int64_t kHalfGroup = kQuantizationGroup / 2;  // bytes of a group

int64_t groups_of(int64_t width) { return (width + kQuantizationGroup - 1) / kQuantizationGroup; }

/// As floats these have their rows along the last dimension but one.
bool stands_in_columns(std::string_view name) {
  return name.starts_with("encoder") || name.starts_with("lm_head");
}

/// (.., rows, D), whichever way the floats lie.
Shape shape_of_rows(std::string_view name, Shape shape) {
  if (stands_in_columns(name)) std::swap(shape[shape.size() - 1], shape[shape.size() - 2]);
  return shape;
}

/// Where the rows of a float matrix lie: row i of D numbers starts at first(i), its numbers `step` apart.
struct RowPlaces {
  int64_t width, count, step, block;

  RowPlaces(std::string_view name, const Shape& shape) {
    const Shape rows = shape_of_rows(name, shape);
    width = rows.back();
    count = element_count(rows) / width;
    block = stands_in_columns(name) ? rows[rows.size() - 2] : 1;
    step = block;
  }
  int64_t first(int64_t row) const { return row / block * block * width + row % block; }
};

struct Writable {
  Tensor tensor;
  std::byte* data = nullptr;

  Writable(DType dtype, Shape shape) { tensor = make_tensor(dtype, std::move(shape), &data); }
  template <class Element>
  Element* as() {
    return reinterpret_cast<Element*>(data);
  }
};

float largest_of(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) {
    if (std::fabs(value) > std::fabs(largest)) largest = value;
  }
  return largest;
}

int rounded(float value, float scale, float smallest, float largest) {
  return scale == 0 ? 0 : static_cast<int>(std::clamp(std::nearbyint(value / scale), smallest, largest));
}

/// Rounds a row to I8; returns its scale.
uint16_t round_row(std::span<const float> row, int8_t* to) {
  const uint16_t bits = f32_to_f16(std::fabs(largest_of(row)) / kLargestOf8);
  const float scale = f16_to_f32(bits);
  for (const float value : row) *to++ = static_cast<int8_t>(rounded(value, scale, -kLargestOf8, kLargestOf8));
  return bits;
}

double error_of(std::span<const float> group, float scale) {
  double sum = 0;
  for (const float value : group) {
    const double error = value - scale * static_cast<float>(rounded(value, scale, kSmallestOf4, kLargestOf4));
    sum += error * error;
  }
  return sum;
}

/// The scale of a group in 4 bits: of those that bring its largest number near -8, the one with the smallest
/// sum of squared errors.
uint16_t scale_of_group(std::span<const float> group) {
  constexpr float kFirst = -7, kStep = 0.25f;
  constexpr int kTried = 9;
  const float largest = largest_of(group);
  uint16_t best = 0;
  double least = error_of(group, 0);
  for (int i = 0; i < kTried; ++i) {
    const uint16_t bits = f32_to_f16(largest / (kFirst - kStep * static_cast<float>(i)));
    const double error = error_of(group, f16_to_f32(bits));
    if (error >= least) continue;
    least = error;
    best = bits;
  }
  return best;
}

uint16_t round_group(std::span<const float> group, uint8_t* to) {
  const uint16_t bits = scale_of_group(group);
  const float scale = f16_to_f32(bits);
  uint8_t numbers[kQuantizationGroup];
  std::fill(std::begin(numbers), std::end(numbers), uint8_t{8});
  for (size_t i = 0; i < group.size(); ++i)
    numbers[i] = static_cast<uint8_t>(8 + rounded(group[i], scale, kSmallestOf4, kLargestOf4));
  for (int64_t i = 0; i < kHalfGroup; ++i)
    to[i] = static_cast<uint8_t>(numbers[i] | numbers[i + kHalfGroup] << 4);
  return bits;
}

void require_finite(std::span<const float> row, float most, const std::string& name) {
  for (const float value : row) {
    if (!(std::fabs(value) <= most))
      fail(ErrorKind::bad_file, "tensor '", name, "' holds ", value, ", which cannot be quantized: numbers ",
           "must be finite and at most ", most);
  }
}

void quantize_matrix(const std::string& name, const Tensor& from, int64_t bits, TensorMap& to) {
  constexpr float kLargestScale = 65504;
  const QuantizedShape shape = quantized_shape(name, from.shape, bits);
  const RowPlaces rows(name, from.shape);
  const Tensor floats = converted(from, DType::f32);
  Writable values(shape.dtype, shape.values), scales(DType::f16, shape.scales);
  std::vector<float> row(static_cast<size_t>(rows.width));
  for (int64_t i = 0; i < rows.count; ++i) {
    for (int64_t d = 0; d < rows.width; ++d) {
      std::memcpy(&row[static_cast<size_t>(d)],
                  floats.data + static_cast<size_t>(rows.first(i) + d * rows.step) * sizeof(float),
                  sizeof(float));
    }
    require_finite(row, kLargestScale * (bits == 8 ? kLargestOf8 : kLargestOf4), name);
    if (bits == 8) {
      scales.as<uint16_t>()[i] = round_row(row, values.as<int8_t>() + i * rows.width);
      continue;
    }
    const int64_t groups = groups_of(rows.width);
    for (int64_t g = 0; g < groups; ++g) {
      const auto begin = static_cast<size_t>(g * kQuantizationGroup);
      const size_t count = std::min<size_t>(kQuantizationGroup, row.size() - begin);
      scales.as<uint16_t>()[i * groups + g] = round_group(
          std::span(row).subspan(begin, count), values.as<uint8_t>() + (i * groups + g) * kHalfGroup);
    }
  }
  to.emplace(name, std::move(values.tensor));
  to.emplace(concat(name, kScales), std::move(scales.tensor));
}

/// The integer of number d in a row of values.
int number_at(const std::byte* row, DType dtype, int64_t d) {
  if (dtype == DType::i8) return static_cast<int8_t>(row[d]);
  const auto byte = static_cast<int>(row[d / kQuantizationGroup * kHalfGroup + d % kHalfGroup]);
  return (d % kQuantizationGroup < kHalfGroup ? byte & 15 : byte >> 4) - 8;
}

Tensor float_matrix(const std::string& name, const Shape& shape, const Matrix& matrix) {
  const Tensor values = converted(matrix.values, matrix.values.dtype),
               scales = converted(matrix.scales, DType::f16);
  const RowPlaces rows(name, shape);
  Writable floats(DType::f32, shape);
  const int64_t bytes = values.shape.back(),
                group = values.dtype == DType::i8 ? rows.width : kQuantizationGroup;
  const int64_t groups = (rows.width + group - 1) / group;
  for (int64_t i = 0; i < rows.count; ++i) {
    for (int64_t d = 0; d < rows.width; ++d) {
      uint16_t scale = 0;
      std::memcpy(&scale, scales.data + static_cast<size_t>(i * groups + d / group) * sizeof scale,
                  sizeof scale);
      floats.as<float>()[rows.first(i) + d * rows.step] =
          f16_to_f32(scale) * static_cast<float>(number_at(values.data + i * bytes, values.dtype, d));
    }
  }
  return floats.tensor;
}

void refuse_packed(const Config& config) {
  if (config.packed)
    fail(ErrorKind::invalid_argument,
         "a packed state_dict is unpacked before it is quantized or dequantized");
}

}  // namespace

Config with_weight_bits(Config config, int64_t bits) {
  if (bits != 0 && bits != 4 && bits != 8)
    fail(ErrorKind::invalid_argument, "weights are quantized to 8 or 4 bits, not ", bits);
  config.weight_bits = bits;
  return config;
}

void require_floats(const Config& config, std::string_view what) {
  if (config.weight_bits == 0) return;
  fail(ErrorKind::unsupported, what, " needs weights in floats, and these are quantized to ",
       config.weight_bits, " bits; bdh convert --dequantize makes floats of them");
}

QuantizedShape quantized_shape(std::string_view name, const Shape& shape, int64_t bits) {
  const Shape rows = shape_of_rows(name, shape);
  Shape scales(rows.begin(), rows.end() - 1);
  if (bits == 8) return {DType::i8, rows, scales, rows.back()};
  QuantizedShape quantized{DType::u8, rows, scales, kQuantizationGroup};
  const int64_t groups = groups_of(rows.back());
  quantized.values.back() = groups * kHalfGroup;
  quantized.scales.push_back(groups);
  return quantized;
}

TensorMap quantized(const Config& config, const TensorMap& state_dict, int64_t bits) {
  if (config.weight_bits != 0)
    fail(ErrorKind::invalid_argument, "the model is quantized to ", config.weight_bits,
         " bits already; quantize the model that it was made from");
  with_weight_bits(config, bits);
  refuse_packed(config);
  TensorMap to;
  for (const auto& [name, shape] : parameter_shapes(config)) {
    const Tensor& tensor = state_dict.at(name);
    if (name == kFreqs) {
      to.emplace(name, tensor);
    } else {
      quantize_matrix(name, tensor, bits, to);
    }
  }
  return to;
}

TensorMap dequantized(const Config& config, const TensorMap& state_dict) {
  if (config.weight_bits == 0)
    fail(ErrorKind::invalid_argument, "the model is not quantized: there is nothing to undo");
  refuse_packed(config);
  TensorMap to;
  for (const auto& [name, shape] : parameter_shapes(with_weight_bits(config, 0))) {
    const Tensor& tensor = state_dict.at(name);
    to.emplace(name, name == kFreqs
                         ? tensor
                         : float_matrix(name, shape, {tensor, state_dict.at(concat(name, kScales))}));
  }
  return to;
}

}  // namespace bdh
