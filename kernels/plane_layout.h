// Where each parameter lies in a plane, and the way from and to tensors, on the CPU.
#pragma once

#include <vector>

#include "bdh/base/threads.h"
#include "kernels/training.h"

namespace bdh {

/// One parameter in a plane: rows of `stride` floats, of which `width` are used.
struct PlanePart {
  int64_t offset = 0;  // floats
  int64_t rows = 0;
  int64_t width = 0;
  int64_t stride = 0;
  bool transposed = false;  // (H, D, N) as (H * N, D)
  Shape shape;              // in the state_dict
};

/// Neuron-major encoders, rows padded with zeros to multiples of `padding`; in the order of Training::names.
struct PlaneLayout {
  PlaneLayout(const Dimensions& dims, int64_t padding);

  Dimensions dims;
  int64_t stride = 0;  // D, padded
  std::vector<PlanePart> parts;
  int64_t floats = 0;

  int64_t decoder(int64_t layer) const { return parts[static_cast<size_t>(layer % dims.sets)].offset; }
  int64_t encoder(int64_t layer) const {
    return parts[static_cast<size_t>(dims.sets + layer % dims.sets)].offset;
  }
  int64_t encoder_v(int64_t layer) const {
    return parts[static_cast<size_t>(2 * dims.sets + layer % dims.sets)].offset;
  }
  const PlanePart& lm_head() const { return parts[parts.size() - 2]; }
  const PlanePart& embed() const { return parts.back(); }
};

/// The part as a tensor of its shape.
Tensor part_tensor(const PlanePart& part, const float* plane, ThreadPool& pool);
/// Takes a tensor of that shape, of any weight dtype.
void set_part(const PlanePart& part, const Tensor& tensor, float* plane, ThreadPool& pool);

}  // namespace bdh
