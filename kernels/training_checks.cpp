// Micro-batches, parameters and carried states that do not fit the model.
#include "kernels/training_checks.h"

#include "bdh/base/error.h"

namespace bdh {

void check_micro_batch(const Dimensions& dims, const MicroBatch& batch) {
  const auto size = static_cast<size_t>(batch.sequences * batch.tokens);
  if (batch.sequences < 1 || batch.tokens < 1 || batch.inputs.size() != size || batch.targets.size() != size)
    fail(ErrorKind::invalid_argument, "a micro-batch has inputs and targets of (sequences, tokens) each");
  for (size_t i = 0; i < size; ++i) {
    if (batch.inputs[i] < 0 || batch.inputs[i] >= dims.vocab || batch.targets[i] >= dims.vocab)
      fail(ErrorKind::invalid_argument, "a micro-batch has a token outside [0, ", dims.vocab, ")");
  }
}

Shape carried_shape(const Dimensions& dims, int64_t sequences) {
  return {dims.layers, sequences, dims.heads, dims.neurons, dims.width};
}

void check_carried(const Tensor& saved, const Shape& shape) {
  if (saved.dtype == DType::f32 && saved.shape == shape && saved.contiguous()) return;
  fail(ErrorKind::bad_file, "a carried state is ", name_of(saved.dtype), " ", to_string(saved.shape),
       ", but this run's is F32 ", to_string(shape));
}

void check_parameter(const TensorMap& tensors, const std::string& name, const Shape& shape) {
  const auto found = tensors.find(name);
  if (found == tensors.end()) fail(ErrorKind::bad_file, "parameter '", name, "' is missing");
  const Tensor& tensor = found->second;
  if (tensor.shape != shape)
    fail(ErrorKind::bad_file, "parameter '", name, "' has shape ", to_string(tensor.shape),
         ", but the config makes it ", to_string(shape));
  if (!is_weight_dtype(tensor.dtype))
    fail(ErrorKind::unsupported, "parameter '", name, "' has dtype ", name_of(tensor.dtype),
         "; parameters must be F64, F32, F16 or BF16");
}

}  // namespace bdh
