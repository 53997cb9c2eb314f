// Models with the logits that PyTorch gave for them: tests/data/logits, written by
// tests/parity/logits_parity.py.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "bdh/model/config.h"

namespace bdh {

struct Golden {
  std::string name;
  Config config;
  TensorMap state_dict;
  std::vector<int32_t> tokens;
  SafetensorsFile answers;  // logits_f32, logits_bf16, logits_f16: (T, V), with weights rounded alike
};

/// All of them, by name.
std::vector<Golden> all_golden();

template <class T>
std::vector<T> values(const Tensor& tensor) {
  std::vector<T> out(static_cast<size_t>(tensor.numel()));
  std::memcpy(out.data(), tensor.data, tensor.bytes());
  return out;
}

/// Largest difference as a share of the largest wanted number; infinite for another count or a NaN.
float relative_difference(const std::vector<float>& got, const std::vector<float>& want);

}  // namespace bdh
