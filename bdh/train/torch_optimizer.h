// The state_dict of a PyTorch optimizer: which parameters its moments belong to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/base/tensor.h"
#include "bdh/train/torch_checkpoint.h"

namespace bdh {

/// A tensor of the state_dict that may be a parameter.
struct TorchParameter {
  std::string name;  // as the file has it
  Shape shape;
};

struct TorchMoments {
  TorchOptimizer options;         // no_decay: names as the file has them
  int64_t step = 0;               // updates made
  TensorMap exp_avg, exp_avg_sq;  // by the parameters' names; empty before the first update
  std::vector<std::string> warnings;
};

/// values, beside: what stands beside the model's state_dict (TorchFile). parameters: in the order of the
/// state_dict; buffers may be among them. Hostile. Throws as read_torch_checkpoint, naming `source`.
TorchMoments read_torch_moments(const Json& values, const TensorMap& beside,
                                const std::vector<TorchParameter>& parameters, std::string_view source);

}  // namespace bdh
