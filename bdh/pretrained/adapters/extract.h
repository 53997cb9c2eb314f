// An adapter from two models: what makes one of the other, as nearly as a rank allows.
#pragma once

#include <string>
#include <vector>

#include "bdh/pretrained/adapters/lora.h"

namespace bdh {

/// How much of a parameter's difference an adapter holds.
struct HeldDifference {
  std::string parameter;
  double norm = 0;  // of the difference (Frobenius)
  double held = 0;  // share of its square: 1 is all
};

struct ExtractedAdapter {
  LoraAdapter adapter;               // of scale 1
  std::vector<HeldDifference> held;  // of each of its updates
};

/// The best approximation of that rank (truncated singular value decomposition, for each head) of tuned -
/// base, of every parameter that differs. Throws Error(invalid_argument) for models of other sizes or
/// frequencies, models that do not differ, a difference that is not finite, and a rank that is below 1 or
/// above the smaller side of a matrix; Error(unsupported) for quantized weights.
ExtractedAdapter extracted_adapter(const Model& base, const Model& tuned, int64_t rank);

}  // namespace bdh
