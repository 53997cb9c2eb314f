// A loaded model with weights of fewer bits, or with floats again (model/quantization.h).
#pragma once

#include "bdh/pretrained/model.h"

namespace bdh {

/// The model with its weights rounded to 8 or 4 bits; everything else is shared. Throws as quantized.
Model quantized(const Model& model, int64_t bits);

/// A quantized model with its weights in float32. Throws Error(invalid_argument) where they are floats.
Model dequantized(const Model& model);

}  // namespace bdh
