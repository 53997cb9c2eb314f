// What every backend asks of a call before it does anything.
#include "kernels/backend.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "kernels/training.h"

namespace bdh {

void require_dtype(const Parameters& parameters, DType dtype, const char* backend) {
  const bool quantized = parameters.embed.group != 0;
  const bool floats = dtype == DType::f32 || dtype == DType::bf16 || dtype == DType::f16;
  const bool integers = dtype == DType::i8 || dtype == DType::u8;
  if (quantized ? integers && dtype == parameters.embed.values.dtype : floats) return;
  fail(ErrorKind::unsupported, "the ", backend,
       " backend runs weights as F32, BF16 or F16, and quantized ones as they are, not as ", name_of(dtype));
}

Parameters contiguous(Parameters parameters) {
  const auto make_contiguous = [](Matrix& matrix) {
    matrix.values = converted(matrix.values, matrix.values.dtype);
    if (matrix.group != 0) matrix.scales = converted(matrix.scales, matrix.scales.dtype);
  };
  for (Layer& layer : parameters.layers) {
    for (Matrix* matrix : {&layer.encoder, &layer.encoder_v, &layer.decoder}) make_contiguous(*matrix);
  }
  make_contiguous(parameters.embed);
  make_contiguous(parameters.lm_head);
  parameters.packed = false;
  return parameters;
}

void refuse_adapters(const Read& read) {
  const auto adapted = [](const Segment& segment) { return segment.adapter != nullptr; };
  if (std::any_of(read.segments.begin(), read.segments.end(), adapted))
    fail(ErrorKind::unsupported, "this backend applies no adapters; merge them into the weights");
}

void Backend::accept(State&, int64_t) {
  fail(ErrorKind::invalid_argument, "accept: no tokens were read provisionally");
}

std::unique_ptr<Training> Backend::new_training(const Dimensions&, const Tensor&, const TrainingOptions&) {
  fail(ErrorKind::unsupported, name(), ": this build does not train; use one without BDH_MINIMAL");
}

bool is_decode(std::span<const Segment> segments) {
  return std::all_of(segments.begin(), segments.end(),
                     [](const Segment& segment) { return segment.state && segment.tokens.size() == 1; });
}

}  // namespace bdh
