// Sampling: from logits to the next token. Seeded and counter-based, so a draw depends on the seed and the
// step alone.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace bdh {

struct SamplingOptions {
  bool do_sample = true;        // false: greedy, the first largest logit
  float temperature = 0.8f;     // > 0; 0 means greedy
  int64_t top_k = 50;           // keep the k likeliest and those equal to the k-th; 0 keeps all
  float top_p = 0.95f;          // keep the likeliest until their probabilities reach p; 1 keeps all
  float min_p = 0.0f;           // keep what is at least this times as likely as the likeliest; 0 keeps all
  float typical_p = 1.0f;       // keep those of ordinary surprise until they reach this; 1 keeps all
  float epsilon_cutoff = 0.0f;  // keep what is at least this likely; 0 and 1 keep all
  float eta_cutoff = 0.0f;      // the same, less where the distribution is flat
  float repetition_penalty = 1.0f;  // divides positive, multiplies negative logits of tokens already seen
  uint64_t seed = 0;

  bool operator==(const SamplingOptions&) const = default;
  bool greedy() const { return !do_sample || temperature == 0; }
  /// Throws Error(invalid_argument) naming the option.
  void validate() const;
};

/// The number in [0, 1) that step `step` (0, 1, ...) of a sampler with this seed draws, the same on every
/// backend:
///     mix(z): z += 0x9E3779B97F4A7C15;  z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
///             z = (z ^ z >> 27) * 0x94D049BB133111EB;  z ^= z >> 31       (64 bits, wrapping)
///     u = (mix(mix(seed) ^ step) >> 11) / 2^53
double uniform(uint64_t seed, uint64_t step);

/// A token to be drawn from the logits after a text.
struct Draw {
  SamplingOptions options;
  int64_t vocab = 0;                      // tokens below this may be drawn
  uint64_t step = 0;                      // which of the numbers of options.seed decides
  std::span<const int32_t> history = {};  // the tokens that the repetition penalty applies to
  int32_t token = -1;                     // what was drawn
  std::span<const int32_t> banned = {};   // tokens that must not be drawn
};

/// A token that may be drawn, and its probability.
struct Candidate {
  int32_t token = 0;
  double probability = 0;
};

/// One sequence's sampler. Order: repetition penalty, banned tokens, temperature, top_k, top_p, min_p,
/// typical_p, epsilon_cutoff, eta_cutoff, draw. The filters are those of Hugging Face's logits warpers; among
/// tokens equal in score top_p keeps the smaller ids. With the probabilities p of what was kept so far and
/// their entropy H: typical_p sorts by |-log p - H| and keeps those up to the one with which typical_p is
/// reached, and those equal to it; eta_cutoff keeps p >= min(eta, sqrt(eta) exp(-H)); it and epsilon_cutoff
/// always keep the likeliest.
///
/// The draw: with w_i = exp((score_i - largest score) / temperature) in float64, candidates ranked by falling
/// score and then by rising id, and W the sum of their w (in rank order where top_p < 1, else in id order),
/// the token is the first whose running sum of w exceeds u * W, u = uniform(seed, step). Tokens with w_i = 0
/// are no candidates.
class Sampler {
 public:
  /// Throws Error(invalid_argument) as SamplingOptions::validate.
  explicit Sampler(const SamplingOptions& options = {});

  /// The next token for logits (V). `history` holds the tokens that the repetition penalty applies to,
  /// `banned` those that must not be drawn. Where all are banned, greedy takes token 0, as Hugging Face does.
  /// Throws Error(invalid_argument) for no logits, for a penalised or banned token outside [0, V) and where
  /// all are banned and one must be drawn, and Error(bad_file) for logits with NaN or +Inf, or with nothing
  /// but -Inf: weights that yield them are broken.
  int32_t next(std::span<const float> logits, std::span<const int32_t> history,
               std::span<const int32_t> banned = {});

  /// The token that `draw` asks for, whatever this sampler's own options and step: for backends.
  int32_t draw(const Draw& draw, std::span<const float> logits);

  /// The tokens that `next` would choose among, likeliest first; their probabilities sum to 1. Draws nothing.
  std::vector<Candidate> distribution(std::span<const float> logits, std::span<const int32_t> history,
                                      std::span<const int32_t> banned = {});

 private:
  void score(std::span<const float> logits, std::span<const int32_t> history,
             std::span<const int32_t> banned);
  void penalise(std::span<const float> logits, std::span<const int32_t> history);
  void ban(std::span<const int32_t> banned);
  void keep_candidates();
  float top_k_threshold();
  double keep_top_p(double total);
  void narrow();
  void keep_typical();
  void keep_above(double probability);
  template <class Test>
  void keep_where(const Test& keeps);
  double log_weight(int32_t token) const;
  double weight(int32_t token) const;
  double entropy() const;
  int32_t ranked(size_t rank);
  int32_t choose(double u);

  SamplingOptions options_;
  uint64_t step_ = 0;
  std::vector<float> scores_;   // (V) logits after the repetition penalty
  std::vector<float> largest_;  // the top_k largest scores
  int32_t best_ = 0;            // first token with the largest score
  std::vector<int32_t> order_;  // tokens that passed top_k; the first sorted_ of them are in rank order
  size_t sorted_ = 0;
  size_t kept_ = 0;  // ranks below this passed the filters
  double mass_ = 0;  // W
};

}  // namespace bdh
