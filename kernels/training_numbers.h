// What an optimizer step and dropout come to for the kernels of every backend. No inline code: files for
// instruction sets that a processor may lack include it.
#pragma once

#include <cstdint>

namespace bdh {

struct AdamWStep;
struct TrainingOptions;

/// One step of AdamW for parameters of one decay, as torch.optim.AdamW rounds its numbers: float64 that meets
/// float32 tensors.
struct AdamWNumbers {
  float keep;  // 1 - rate * decay
  float beta1_rest, beta2, beta2_rest;
  float rate;             // rate / (1 - beta1^step)
  float root_correction;  // sqrt(1 - beta2^step)
  float epsilon;
  float gradient_scale;
};

AdamWNumbers adamw_numbers(const AdamWStep& step, double decay);

/// Which neurons are dropped: of each eight of a head at a token, the eight halves of one Philox4x32-10
/// (Salmon et al., SC 2011), low halves first, of counter (head * ceil(N / 8) + neuron / 8, token, sequence,
/// layer), token and sequence within the micro-batch.
struct DropoutNumbers {
  uint32_t key[2];
  uint32_t threshold;  // of 65536: halves below it are dropped
  float scale;         // of those that stay
};

DropoutNumbers dropout_numbers(const TrainingOptions& options, uint64_t micro_batch);

}  // namespace bdh
