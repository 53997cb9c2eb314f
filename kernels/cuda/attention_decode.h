// Softmax-free attention for one token a sequence, from x to norm(a).
#pragma once

#include "kernels/cuda/decode.h"
#include "kernels/cuda/packed.h"
#include "kernels/cuda/runtime.h"

namespace bdh::cuda {

/// n, r of the token; a = r S; S += r^T x (read before it is written: strictly causal); attended = norm(a).
/// Rows of S whose pair is inactive are neither read nor written.
void attention_decode(const PackedParameters& packed, const DecodeBuffers& buffers, int layer,
                      cudaStream_t stream);

}  // namespace bdh::cuda
