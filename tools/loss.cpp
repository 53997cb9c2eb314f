// How surprised a model is by a token.
#include "tools/loss.h"

#include <algorithm>
#include <cmath>

namespace bdh::tools {

double loss_of(std::span<const float> logits, int32_t target) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return std::log(sum) + largest - logits[static_cast<size_t>(target)];
}

}  // namespace bdh::tools
