// A model's loss and gradients in float64 by plain loops, in the parallel form: what training kernels are
// compared with. Symbols as in kernels/backend.h.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "bdh/base/tensor.h"
#include "kernels/training.h"

namespace bdh::test {

/// Numbers by state_dict name, row-major as the state_dict has them.
using NamedNumbers = std::map<std::string, std::vector<double>>;

struct ReferenceModel {
  Dimensions dims;
  std::vector<float> freqs;     // (N) turns per token
  std::vector<float> horizons;  // (H) or none, as TrainingOptions has them
};

/// What g of a neuron, h * N + i, is multiplied by.
using DropoutMask = std::function<double(int64_t layer, int64_t sequence, int64_t token, int64_t neuron)>;

/// S of every layer and sequence (L, B, H, N, D), empty for none yet, and the position of the next token.
struct ReferenceState {
  std::vector<double> s;
  int64_t position = 0;
};

struct ReferenceLoss {
  double nats = 0;  // summed over the targets
  int64_t tokens = 0;
  NamedNumbers gradients;  // of the summed loss, of every parameter
};

/// The loss of a micro-batch and its gradients, MicroBatch::loss_scale left out. state, where there is one,
/// is read from and moved on; no gradient goes through it.
ReferenceLoss reference_gradient(const ReferenceModel& model, const NamedNumbers& parameters,
                                 const MicroBatch& batch, ReferenceState* state = nullptr,
                                 const DropoutMask& mask = {});

/// Tensors of weights as float64; attn.freqs is left out.
NamedNumbers named_numbers(const TensorMap& tensors);

/// Norm of the difference over norm of what is wanted; infinite for another size or what is not finite.
double relative_error(const std::vector<double>& got, const std::vector<double>& want);

}  // namespace bdh::test
