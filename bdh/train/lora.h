// A LoRA adapter (arXiv 2106.09685) that is trained in the place of the weights: its options, its matrices,
// and the weights with it merged in.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bdh/base/tensor.h"
#include "bdh/model/config.h"
#include "bdh/pretrained/adapters/lora.h"

namespace bdh {

struct LoraOptions {
  bool on = false;
  int64_t rank = 8;
  double alpha = 16;
  std::vector<std::string> targets{"encoder", "encoder_v", "decoder"};  // as TrainOptions::no_decay
  bool rslora = false;  // the scale is alpha / sqrt(rank), not alpha / rank
  double dropout = 0;   // of the adapter's input: none can be, where it is merged

  double scale() const;
  bool operator==(const LoraOptions&) const = default;
};

/// After a parameter's name: its two matrices, named as PEFT names them.
inline constexpr const char* kLoraA = ".lora_A";  // ([H,] rank, columns)
inline constexpr const char* kLoraB = ".lora_B";  // ([H,] rows, rank)

/// A parameter ([H,] rows, columns) that an adapter changes.
struct LoraTarget {
  std::string parameter;
  Shape shape, a, b;  // of the parameter and of its matrices
};

/// In the model's order. Throws Error(invalid_argument) naming a target that stands for no parameter.
std::vector<LoraTarget> lora_targets(const Config& config, const LoraOptions& options);

/// Trained numbers: those of all matrices.
int64_t lora_numbers(const Config& config, const LoraOptions& options);

/// Matrices as PEFT starts them: A uniform, each number a function of seed, name and index, and B zeros.
TensorMap initial_lora(const Config& config, const LoraOptions& options, uint64_t seed);

/// The matrices as an adapter: throws Error(bad_file) naming one that is missing or has another shape.
LoraAdapter adapter_of(const TensorMap& matrices, const Config& config, const LoraOptions& options);
/// Those of an adapter: throws Error(invalid_argument) where it has other targets, another rank or scale than
/// the options say.
TensorMap matrices_of(const LoraAdapter& adapter, const Config& config, const LoraOptions& options);

/// base + scale * B A in float32, for every parameter that has matrices; the others as they are.
/// Throws Error(bad_file) naming a matrix of another shape.
TensorMap merged_weights(const TensorMap& base, const TensorMap& matrices, double scale);

}  // namespace bdh
