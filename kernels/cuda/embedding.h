// From tokens to x.
#pragma once

#include "kernels/cuda/decode.h"
#include "kernels/cuda/prefill.h"

namespace bdh::cuda {

/// x = norm(embed[token]) for every sequence of a decode, or every row of a prefill (x_operand as well).
void embed_decode(const PackedParameters& packed, const DecodeBuffers& buffers, cudaStream_t stream);
void embed_prefill(const PackedParameters& packed, const PrefillBuffers& buffers, cudaStream_t stream);

}  // namespace bdh::cuda
