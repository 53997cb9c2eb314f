// Attention of a batch of single tokens whose n and r the dense encode has made.
#pragma once

#include "kernels/cuda/prefill.h"

namespace bdh::cuda {

/// As attention_prefill where every segment is one row and has a state.
void attention_rows(const PackedParameters& packed, const PrefillBuffers& buffers, int layer,
                    cudaStream_t stream);

}  // namespace bdh::cuda
