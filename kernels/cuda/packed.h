// Parameters on the GPU: neuron-major, rows padded to whole vectors. Made once, then read only.
#pragma once

#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cuda/runtime.h"
#include "kernels/cuda/sizes.h"

namespace bdh::cuda {

/// Numbers, and what they are multiplied with where they are quantized (weight_rows.h says how they lie).
struct PackedMatrix {
  DeviceMemory values, scales;
};

struct PackedLayer {
  PackedMatrix encoder;    // (H*N, stride): row h * N + j is E_h[:, j]
  PackedMatrix encoder_v;  // (H*N, stride)
  PackedMatrix decoder;    // (H*N, stride)
};

struct PackedParameters : Packed {
  Sizes sizes{};
  uint64_t id = 0;                  // no two of a process share one
  std::vector<PackedLayer> layers;  // dims.sets of them
  PackedMatrix embed;               // (V, stride)
  PackedMatrix lm_head;             // (D, V); quantized: (V, stride), a row for each logit
  DeviceMemory freqs;               // (N) float32, turns per token; zeros up to a whole vector

  const PackedLayer& layer(int index) const { return layers[static_cast<size_t>(index) % layers.size()]; }
};

/// Bytes of all of it.
size_t packed_bytes(const Dimensions& dims, DType dtype);

/// Copies the parameters to the GPU slab by slab, converting and transposing on the way. Waits until they are
/// there. Throws Error(unsupported) as require_dtype, and Error(out_of_memory).
std::shared_ptr<const PackedParameters> pack_parameters(const Parameters& parameters, DType dtype,
                                                        const Stream& stream);

/// Whether the current GPU has code in this build: cudaSuccess, or what the runtime says.
cudaError_t kernel_image_status();

}  // namespace bdh::cuda
