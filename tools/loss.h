// How surprised a model is by a token.
#pragma once

#include <cstdint>
#include <span>

namespace bdh::tools {

/// -log softmax(logits)[target], in nats.
double loss_of(std::span<const float> logits, int32_t target);

}  // namespace bdh::tools
