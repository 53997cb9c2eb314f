// Low-rank adapters (LoRA, arXiv 2106.09685): what they add to a model's parameters, and models with it
// added.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "bdh/pretrained/model.h"

namespace bdh {

/// Of one parameter (rows, columns), or (H, rows, columns): scale * left right is added to it, for each head.
struct LowRankUpdate {
  std::string parameter;  // its name in the state_dict
  int64_t rank = 0;
  double scale = 0;
  Tensor left;   // ([H,] rows, rank) float32, contiguous
  Tensor right;  // ([H,] rank, columns) float32, contiguous

  int64_t numbers() const { return left.numel() + right.numel(); }
};

struct LoraAdapter {
  std::vector<LowRankUpdate> updates;  // no two of one parameter
};

/// An adapter and how much of it: 1 is all.
struct AppliedAdapter {
  LoraAdapter adapter;
  double scale = 1;
};

/// The model with the adapters added to its weights, each parameter rounded once, to the dtype in which it is
/// stored; the model itself stays as it is, and all else is shared. Throws Error(unsupported) for quantized
/// weights, Error(invalid_argument) for an adapter of other parameters or shapes, and where a sum is not
/// finite.
Model merged(const Model& model, std::span<const AppliedAdapter> adapters);

/// The model with the adapters beside its weights, in float32, quantized ones too; its memory is shared, and
/// sessions of both may be read together. Throws Error(unsupported) where the backend applies none or there
/// are some already, Error(invalid_argument) for an adapter of other parameters or shapes.
Model adapted(const Model& model, std::span<const AppliedAdapter> adapters);

}  // namespace bdh
