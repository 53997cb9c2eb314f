// Sampling as sampler.h defines it: filters, ranking as far as a draw needs it, and the draw.
#include "kernels/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "bdh/base/error.h"

namespace bdh {
namespace {

constexpr size_t kFirstRanks = 64;  // ranks sorted at once, four times as many each further time

uint64_t mix(uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

float penalised(float logit, float penalty) {
  constexpr float kLargest = std::numeric_limits<float>::max();
  return std::clamp(logit > 0 ? logit / penalty : logit * penalty, -kLargest, kLargest);
}

void require_finite(std::span<const float> logits) {
  const auto broken = [](float logit) { return std::isnan(logit) || (std::isinf(logit) && logit > 0); };
  const auto impossible = [](float logit) { return std::isinf(logit); };
  if (std::any_of(logits.begin(), logits.end(), broken) ||
      std::all_of(logits.begin(), logits.end(), impossible)) {
    fail(ErrorKind::bad_file,
         "logits are not finite: the weights hold NaN or Inf, or numbers too large for their dtype; "
         "check the model's weights file");
  }
}

void require_token(int32_t token, size_t vocab, const char* which) {
  if (token >= 0 && static_cast<size_t>(token) < vocab) return;
  fail(ErrorKind::invalid_argument, "token ", token, " ", which, " is outside [0, ", vocab, ")");
}

}  // namespace

double uniform(uint64_t seed, uint64_t step) {
  return static_cast<double>(mix(mix(seed) ^ step) >> 11) * 0x1p-53;
}

Sampler::Sampler(const SamplingOptions& options) : options_(options) { options_.validate(); }

int32_t Sampler::next(std::span<const float> logits, std::span<const int32_t> history,
                      std::span<const int32_t> banned) {
  const double u = uniform(options_.seed, step_++);
  score(logits, history, banned);
  if (options_.greedy()) return best_;
  keep_candidates();
  return choose(u);
}

int32_t Sampler::draw(const Draw& draw, std::span<const float> logits) {
  options_ = draw.options;
  step_ = draw.step;
  return next(logits.first(static_cast<size_t>(draw.vocab)), draw.history, draw.banned);
}

std::vector<Candidate> Sampler::distribution(std::span<const float> logits, std::span<const int32_t> history,
                                             std::span<const int32_t> banned) {
  score(logits, history, banned);
  if (options_.greedy()) return {{best_, 1.0}};
  keep_candidates();
  std::vector<Candidate> candidates;
  for (size_t rank = 0; rank < kept_; ++rank) {
    const int32_t token = ranked(rank);
    candidates.push_back({token, weight(token) / mass_});
  }
  return candidates;
}

void Sampler::score(std::span<const float> logits, std::span<const int32_t> history,
                    std::span<const int32_t> banned) {
  if (logits.empty()) fail(ErrorKind::invalid_argument, "no logits to choose a token from");
  require_finite(logits);
  scores_.assign(logits.begin(), logits.end());
  if (options_.repetition_penalty != 1) penalise(logits, history);
  ban(banned);
  best_ = static_cast<int32_t>(std::max_element(scores_.begin(), scores_.end()) - scores_.begin());
}

void Sampler::penalise(std::span<const float> logits, std::span<const int32_t> history) {
  for (const int32_t token : history) {
    require_token(token, logits.size(), "of the history");
    scores_[token] = penalised(logits[token], options_.repetition_penalty);
  }
}

void Sampler::ban(std::span<const int32_t> banned) {
  for (const int32_t token : banned) {
    require_token(token, scores_.size(), "that is banned");
    scores_[token] = -std::numeric_limits<float>::infinity();
  }
}

void Sampler::keep_candidates() {
  if (std::isinf(scores_[best_])) {
    fail(ErrorKind::invalid_argument,
         "every token is banned or suppressed, so that none can be drawn; allow some "
         "(suppress_tokens, bad_words_ids, no_repeat_ngram_size, min_new_tokens)");
  }
  const float threshold = top_k_threshold();
  order_.clear();
  sorted_ = 0;
  double total = 0;
  for (int32_t token = 0; token < static_cast<int32_t>(scores_.size()); ++token) {
    if (scores_[token] < threshold) continue;
    const double w = weight(token);
    if (w == 0) continue;
    order_.push_back(token);
    total += w;
  }
  kept_ = order_.size();
  mass_ = options_.top_p < 1 ? keep_top_p(total) : total;
  narrow();
}

/// The k-th largest score: smaller ones are removed.
float Sampler::top_k_threshold() {
  const auto k = static_cast<uint64_t>(options_.top_k);
  if (k == 0 || k >= scores_.size()) return -std::numeric_limits<float>::infinity();
  largest_.resize(k);
  std::partial_sort_copy(scores_.begin(), scores_.end(), largest_.begin(), largest_.end(), std::greater<>());
  return largest_.back();
}

/// Keeps the shortest run of ranks that reaches top_p, and returns its weight.
double Sampler::keep_top_p(double total) {
  const double enough = static_cast<double>(options_.top_p) * total;
  double mass = weight(ranked(0));
  size_t rank = 1;
  for (; rank < order_.size() && mass < enough; ++rank) mass += weight(ranked(rank));
  kept_ = rank;
  return mass;
}

/// The filters after top_p, each on what the one before it kept.
void Sampler::narrow() {
  const auto cutoff = [](float option) { return option < 1 ? static_cast<double>(option) : 0.0; };
  const double min_p = options_.min_p, epsilon = cutoff(options_.epsilon_cutoff),
               eta = cutoff(options_.eta_cutoff);
  if (min_p > 0) keep_where([&](int32_t token) { return weight(token) >= min_p; });
  if (options_.typical_p < 1) keep_typical();
  if (epsilon > 0) keep_above(epsilon);
  if (eta > 0) keep_above(std::min(eta, std::sqrt(eta) * std::exp(-entropy())));
}

void Sampler::keep_typical() {
  const double level = entropy() - std::log(mass_);
  const auto strangeness = [&](int32_t token) { return std::abs(log_weight(token) + level); };
  std::vector<std::pair<double, double>> tokens;  // strangeness and weight
  for (size_t i = 0; i < kept_; ++i) tokens.emplace_back(strangeness(order_[i]), weight(order_[i]));
  std::sort(tokens.begin(), tokens.end());
  const double enough = static_cast<double>(options_.typical_p) * mass_;
  size_t last = 0;
  for (double sum = tokens[0].second; last + 1 < tokens.size() && sum < enough; sum += tokens[last].second)
    ++last;
  keep_where([&](int32_t token) { return strangeness(token) <= tokens[last].first; });
}

void Sampler::keep_above(double probability) {
  float likeliest = scores_[order_[0]];
  for (size_t i = 0; i < kept_; ++i) likeliest = std::max(likeliest, scores_[order_[i]]);
  const double least = probability * mass_;
  keep_where([&](int32_t token) { return scores_[token] == likeliest || weight(token) >= least; });
}

template <class Test>
void Sampler::keep_where(const Test& keeps) {
  order_.resize(kept_);
  std::erase_if(order_, [&](int32_t token) { return !keeps(token); });
  sorted_ = 0;
  kept_ = order_.size();
  mass_ = 0;
  for (const int32_t token : order_) mass_ += weight(token);
}

double Sampler::log_weight(int32_t token) const {
  const double below = static_cast<double>(scores_[token]) - static_cast<double>(scores_[best_]);
  return below / static_cast<double>(options_.temperature);
}

double Sampler::weight(int32_t token) const { return std::exp(log_weight(token)); }

/// Of what is kept, in nats: -sum p log p with p = w / W.
double Sampler::entropy() const {
  double sum = 0;
  for (size_t i = 0; i < kept_; ++i) sum += weight(order_[i]) * log_weight(order_[i]);
  return std::log(mass_) - sum / mass_;
}

int32_t Sampler::ranked(size_t rank) {
  const auto likelier = [this](int32_t a, int32_t b) {
    return scores_[a] != scores_[b] ? scores_[a] > scores_[b] : a < b;
  };
  while (rank >= sorted_) {
    const size_t end = std::min(order_.size(), std::max(kFirstRanks, 4 * sorted_));
    const auto from = order_.begin() + static_cast<std::ptrdiff_t>(sorted_);
    const auto to = order_.begin() + static_cast<std::ptrdiff_t>(end);
    std::nth_element(from, to, order_.end(), likelier);
    std::sort(from, to, likelier);
    sorted_ = end;
  }
  return order_[rank];
}

int32_t Sampler::choose(double u) {
  const double target = u * mass_;
  double sum = 0;
  for (size_t rank = 0; rank + 1 < kept_; ++rank) {
    const int32_t token = ranked(rank);
    sum += weight(token);
    if (sum > target) return token;
  }
  return ranked(kept_ - 1);
}

}  // namespace bdh
