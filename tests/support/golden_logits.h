// Models with the logits that PyTorch gave for them: tests/data/logits, written by
// tests/parity/logits_parity.py.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "bdh/model/config.h"

namespace bdh::test {

struct Golden {
  std::string name;
  Config config;
  TensorMap state_dict;
  std::vector<int32_t> tokens;
  SafetensorsFile answers;  // logits_f32, logits_bf16, logits_f16: (T, V), with weights rounded alike
  /// horizon_all and horizon_by_head: (H) tokens; logits_all and logits_by_head: (T, V), float32 weights.
  std::optional<SafetensorsFile> damped;
};

/// All of them, by name.
std::vector<Golden> all_golden();

}  // namespace bdh::test
