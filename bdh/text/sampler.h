// Sampling: from logits to the next token. Seeded and counter-based, so a draw depends on the seed and the step alone.
// Knows nothing of models, text or files.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bdh {

struct SamplingOptions {
  bool do_sample = true;            // false: greedy, the first largest logit
  float temperature = 0.8f;         // > 0; 0 means greedy
  int64_t top_k = 50;               // keep the k likeliest; 0 keeps all
  float top_p = 0.95f;              // keep the likeliest until their probabilities reach p; 1 keeps all
  float repetition_penalty = 1.0f;  // divides positive, multiplies negative logits of tokens already seen
  uint64_t seed = 0;

  /// Throws Error(invalid_argument) naming the option.
  void validate() const;
};

/// One sequence's sampler. Order: repetition penalty, temperature, top_k, top_p, draw.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);
  /// The next token for logits (V). `history` holds the tokens that the repetition penalty applies to.
  int32_t next(std::span<const float> logits, std::span<const int32_t> history);

 private:
  SamplingOptions options_;
  uint64_t step_ = 0;
  std::vector<float> scores_;
  std::vector<int32_t> order_;
};

}  // namespace bdh
