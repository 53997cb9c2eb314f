// Drawing the next token on the GPU, as kernels/sampler.h defines the draw.
#pragma once

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/cuda/runtime.h"

namespace bdh::cuda {

/// What is left to the host: logits that are not finite, and more than kMostCandidates tokens to choose
/// among.
constexpr int32_t kNotDrawn = -1;
constexpr int kMostCandidates = 2048;

/// A Draw as the kernel takes it.
struct DrawRequest {
  double u;
  float temperature, top_p;
  int top_k, vocab;
  bool greedy;
};

/// Whether the kernel knows every option that is set; else the host draws (Sampler::draw).
bool drawn_on_device(const Draw& draw);

DrawRequest request_of(const Draw& draw);
/// For a row that nothing is drawn from.
constexpr DrawRequest kNoDraw{.u = 0, .temperature = 1, .top_p = 1, .top_k = 0, .vocab = 1, .greedy = true};

/// tokens (count): the token drawn from logits (count, vocab), or kNotDrawn. overlap: as Grid's.
void draw_tokens(const float* logits, int vocab, const DrawRequest* requests, int count, int32_t* tokens,
                 cudaStream_t stream, bool overlap = false);

}  // namespace bdh::cuda
