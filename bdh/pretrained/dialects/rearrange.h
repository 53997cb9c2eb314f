// Tensors of other layouts, brought to the reference's.
#pragma once

#include <vector>

#include "bdh/base/tensor.h"

namespace bdh {

/// A matrix with its dimensions exchanged: a view.
Tensor transposed(const Tensor& matrix);

/// The neurons of each head from halves to pairs: place 2i takes neuron i, place 2i + 1 neuron i + N/2. axis:
/// of the neurons, whose `heads` blocks of N lie one behind the other.
Tensor paired_halves(const Tensor& tensor, size_t axis, int64_t heads);

/// Float32: element e of the tensor in row-major order times factors[e / run].
Tensor scaled(const Tensor& tensor, const std::vector<float>& factors, int64_t run);

/// The values in float32, row-major.
std::vector<float> values_of(const Tensor& tensor);

/// A float32 tensor of these values.
Tensor tensor_of(const std::vector<float>& values, const Shape& shape);

}  // namespace bdh
