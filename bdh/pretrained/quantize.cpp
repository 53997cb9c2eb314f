// A loaded model with weights of fewer bits, or with floats again.
#include "bdh/pretrained/quantize.h"

#include "bdh/model/quantization.h"

namespace bdh {

namespace {

Model with_weights(const Model& model, int64_t bits, const TensorMap& state_dict) {
  Model other = model;
  other.packed = false;
  other.weights = std::make_shared<Weights>(with_weight_bits(model.config(), bits), state_dict,
                                            model.weights->shared_backend());
  return other;
}

}  // namespace

Model quantized(const Model& model, int64_t bits) {
  return with_weights(model, bits, quantized(model.config(), model.weights->state_dict(), bits));
}

Model dequantized(const Model& model) {
  return with_weights(model, 0, dequantized(model.config(), model.weights->state_dict()));
}

}  // namespace bdh
