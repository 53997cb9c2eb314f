// What every backend's training refuses.
#pragma once

#include "kernels/training.h"

namespace bdh {

/// Throws Error(invalid_argument) for sizes that disagree and for tokens that are none.
void check_micro_batch(const Dimensions& dims, const MicroBatch& batch);

/// Shape of what a carried state saves, and whether a tensor is of it: throws Error(bad_file).
Shape carried_shape(const Dimensions& dims, int64_t sequences);
void check_carried(const Tensor& saved, const Shape& shape);

/// Throws Error(bad_file) or Error(unsupported), naming the parameter, where it is missing, or has another
/// shape, or no weight dtype.
void check_parameter(const TensorMap& tensors, const std::string& name, const Shape& shape);

}  // namespace bdh
