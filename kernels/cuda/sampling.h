// Drawing the next token on the GPU, as kernels/sampler.h defines the draw.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/runtime.h"

namespace bdh::cuda {

/// What is not drawn here: logits that are not finite, and more than kMostCandidates tokens to choose among.
constexpr int32_t kNotDrawn = -1;
constexpr int kMostCandidates = 2048;

/// A Draw as the device takes it.
struct DrawRequest {
  double u;
  float temperature, top_p;
  int top_k, vocab;
  bool greedy;
};

DrawRequest request_of(const Draw& draw);

/// tokens (count): the token drawn from logits (count, vocab), or kNotDrawn. early: as Grid's.
void draw_tokens(const float* logits, int vocab, const DrawRequest* requests, int count, int32_t* tokens,
                 cudaStream_t stream, bool early = false);

}  // namespace bdh::cuda
