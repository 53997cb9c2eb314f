// Which parameters an adapter changes, and adding it to them.
#include "bdh/train/lora.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bdh/base/error.h"
#include "bdh/model/weights.h"
#include "bdh/train/parameter_names.h"
#include "kernels/training_checks.h"

namespace bdh {

namespace {

bool is_near(double a, double b) { return std::abs(a - b) <= 1e-6 * std::abs(b); }

// Those of a checkpoint may lie unaligned in a mapped file.
std::vector<float> floats_of(const Tensor& tensor) {
  const Tensor floats = converted(tensor, DType::f32);
  std::vector<float> numbers(static_cast<size_t>(floats.numel()));
  std::memcpy(numbers.data(), floats.data, floats.bytes());
  return numbers;
}

Shape with_rows_and_columns(Shape shape, int64_t rows, int64_t columns) {
  shape[shape.size() - 2] = rows;
  shape.back() = columns;
  return shape;
}

Tensor merged(const Tensor& base, const std::vector<float>& a, const std::vector<float>& b, int64_t rank,
              float scale) {
  const int64_t columns = base.shape.back(), rows = base.shape[base.shape.size() - 2];
  std::byte* data = nullptr;
  Tensor sum = make_tensor(DType::f32, base.shape, &data);
  auto* to = reinterpret_cast<float*>(data);
  std::memcpy(to, base.data, base.bytes());
  for (int64_t row = 0; row < base.numel() / columns; ++row, to += columns) {
    const float* left = b.data() + row * rank;
    const float* right = a.data() + row / rows * rank * columns;
    for (int64_t k = 0; k < rank; ++k, right += columns) {
      const float factor = scale * left[k];
      for (int64_t i = 0; i < columns; ++i) to[i] += factor * right[i];
    }
  }
  return sum;
}

// What the matrices of a parameter of that shape must be.
LoraTarget target_of(const std::string& parameter, const Shape& shape, int64_t rank) {
  return {parameter, shape, with_rows_and_columns(shape, rank, shape.back()),
          with_rows_and_columns(shape, shape[shape.size() - 2], rank)};
}

void check_matrices(const TensorMap& matrices, const LoraTarget& target) {
  check_parameter(matrices, target.parameter + kLoraA, target.a);
  check_parameter(matrices, target.parameter + kLoraB, target.b);
}

}  // namespace

double LoraOptions::scale() const {
  const auto numbers = static_cast<double>(rank);
  return alpha / (rslora ? std::sqrt(numbers) : numbers);
}

std::vector<LoraTarget> lora_targets(const Config& config, const LoraOptions& options) {
  const std::vector<std::string> names = parameter_names(config);
  std::vector<bool> chosen(names.size(), false);
  for (const std::string& target : options.targets)
    for (const size_t i : find_parameters(names, target, "lora_targets")) chosen[i] = true;
  std::vector<LoraTarget> targets;
  for (const auto& [name, shape] : parameter_shapes(config)) {
    const auto place = std::find(names.begin(), names.end(), name);
    if (place == names.end() || !chosen[static_cast<size_t>(place - names.begin())]) continue;
    targets.push_back(target_of(name, shape, options.rank));
  }
  if (targets.empty())
    fail(ErrorKind::invalid_argument, "lora_targets names no parameter; give some, as encoder,decoder");
  return targets;
}

int64_t lora_numbers(const Config& config, const LoraOptions& options) {
  int64_t numbers = 0;
  for (const LoraTarget& target : lora_targets(config, options))
    numbers += element_count(target.a) + element_count(target.b);
  return numbers;
}

LoraAdapter adapter_of(const TensorMap& matrices, const Config& config, const LoraOptions& options) {
  LoraAdapter adapter;
  for (const LoraTarget& target : lora_targets(config, options)) {
    check_matrices(matrices, target);
    adapter.updates.push_back({target.parameter, options.rank, options.scale(),
                               matrices.at(target.parameter + kLoraB),
                               matrices.at(target.parameter + kLoraA)});
  }
  return adapter;
}

TensorMap matrices_of(const LoraAdapter& adapter, const Config& config, const LoraOptions& options) {
  const std::vector<LoraTarget> targets = lora_targets(config, options);
  TensorMap matrices;
  for (const LowRankUpdate& update : adapter.updates) {
    const auto target = std::find_if(targets.begin(), targets.end(), [&](const LoraTarget& known) {
      return known.parameter == update.parameter;
    });
    if (target == targets.end())
      fail(ErrorKind::invalid_argument, "the adapter to start from changes '", update.parameter,
           "', which lora_targets does not name; add it");
    if (update.rank != options.rank || !is_near(update.scale, options.scale()))
      fail(ErrorKind::invalid_argument, "the adapter to start from has rank ", update.rank, " and scale ",
           update.scale, ", the run rank ", options.rank, " and scale ", options.scale(),
           "; give lora_rank, lora_alpha and lora_rslora as it has them");
    matrices.emplace(update.parameter + kLoraA, update.right);
    matrices.emplace(update.parameter + kLoraB, update.left);
  }
  if (adapter.updates.size() != targets.size())
    fail(ErrorKind::invalid_argument, "the adapter to start from changes ", adapter.updates.size(),
         " parameters, the run ", targets.size(), "; give lora_targets as it has them");
  return matrices;
}

TensorMap merged_weights(const TensorMap& base, const TensorMap& matrices, double scale) {
  TensorMap weights = base;
  for (auto& [name, tensor] : weights) {
    const auto a = matrices.find(name + kLoraA), b = matrices.find(name + kLoraB);
    if (a == matrices.end() || b == matrices.end()) continue;
    const Shape& shape = b->second.shape;
    const int64_t rank = shape.empty() ? 1 : std::max<int64_t>(1, shape.back());
    check_matrices(matrices, target_of(name, tensor.shape, rank));
    tensor = merged(converted(tensor, DType::f32), floats_of(a->second), floats_of(b->second), rank,
                    static_cast<float>(scale));
  }
  return weights;
}

}  // namespace bdh
