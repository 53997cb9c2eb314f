// What every backend asks of a call before it does anything.
#include "kernels/backend.h"

#include <algorithm>

#include "bdh/base/error.h"
#include "kernels/training.h"

namespace bdh {

namespace {

void refuse_scales(const Matrix& matrix) {
  if (matrix.group != 0 || matrix.scales.data)
    fail(ErrorKind::unsupported, "no backend runs weights with scales yet; load them as F32, BF16 or F16");
}

}  // namespace

void refuse_unbuilt(const Parameters& parameters) {
  refuse_scales(parameters.embed);
  refuse_scales(parameters.lm_head);
  for (const Layer& layer : parameters.layers) {
    for (const Matrix* matrix : {&layer.encoder, &layer.encoder_v, &layer.decoder}) refuse_scales(*matrix);
  }
}

void refuse_unbuilt(const Read& read) {
  const auto adapted = [](const Segment& segment) { return segment.adapter != nullptr; };
  if (std::any_of(read.segments.begin(), read.segments.end(), adapted))
    fail(ErrorKind::unsupported, "no backend applies adapters yet; merge them into the weights");
}

void Backend::accept(State&, int64_t) {
  fail(ErrorKind::invalid_argument, "accept: no tokens were read provisionally");
}

std::unique_ptr<Training> Backend::new_training(const Dimensions&, const Tensor&, const TrainingOptions&) {
  fail(ErrorKind::unsupported, name(), ": this backend does not train yet; use --device cpu");
}

bool is_decode(std::span<const Segment> segments) {
  return std::all_of(segments.begin(), segments.end(),
                     [](const Segment& segment) { return segment.state && segment.tokens.size() == 1; });
}

}  // namespace bdh
