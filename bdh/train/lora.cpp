// Which parameters an adapter changes, and adding it to them.
#include "bdh/train/lora.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "bdh/base/error.h"
#include "bdh/model/weights.h"
#include "bdh/train/parameter_names.h"

namespace bdh {

namespace {

bool is_near(double a, double b) { return std::abs(a - b) <= 1e-6 * std::abs(b); }

const float* floats_of(const Tensor& tensor) { return reinterpret_cast<const float*>(tensor.data); }

Shape with_rows_and_columns(Shape shape, int64_t rows, int64_t columns) {
  shape[shape.size() - 2] = rows;
  shape.back() = columns;
  return shape;
}

// base may be unaligned: it lies in a mapped file.
Tensor merged(const Tensor& base, const Tensor& a, const Tensor& b, float scale) {
  const int64_t rank = b.shape.back(), columns = base.shape.back();
  const int64_t rows = base.shape[base.shape.size() - 2], all = base.numel() / columns;
  std::byte* data = nullptr;
  Tensor sum = make_tensor(DType::f32, base.shape, &data);
  auto* to = reinterpret_cast<float*>(data);
  std::memcpy(to, base.data, base.bytes());
  for (int64_t row = 0; row < all; ++row, to += columns) {
    const float* left = floats_of(b) + row * rank;
    const float* right = floats_of(a) + row / rows * rank * columns;
    for (int64_t k = 0; k < rank; ++k, right += columns) {
      const float factor = scale * left[k];
      for (int64_t i = 0; i < columns; ++i) to[i] += factor * right[i];
    }
  }
  return sum;
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
    targets.push_back({name, shape, with_rows_and_columns(shape, options.rank, shape.back()),
                       with_rows_and_columns(shape, shape[shape.size() - 2], options.rank)});
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
  for (const LoraTarget& target : lora_targets(config, options))
    adapter.updates.push_back({target.parameter, options.rank, options.scale(),
                               matrices.at(target.parameter + kLoraB),
                               matrices.at(target.parameter + kLoraA)});
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
    tensor = merged(tensor, a->second, b->second, static_cast<float>(scale));
  }
  return weights;
}

}  // namespace bdh
