// Adapters as kernels apply them, beside the weights.
#include <cmath>
#include <map>
#include <memory>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/sha256.h"
#include "bdh/model/quantization.h"
#include "bdh/pretrained/adapters/lora.h"
#include "kernels/adapter.h"

namespace bdh {

namespace {

struct Share {
  const LowRankUpdate* update;
  double scale;
};

// A parameter (heads, rows, columns) and where its updates go. by_column: left is kept transposed.
struct Target {
  LowRank* matrix;
  int64_t heads, rows, columns;
  bool by_column;
};

std::string layer_parameter(const Config& config, const char* name, int64_t set) {
  return config.tie_layers ? std::string(name) : concat(name, ".", set);
}

std::map<std::string, Target> targets_of(const Config& config, Adapter& adapter) {
  const Dimensions dims = config.dimensions();
  const int64_t all = dims.heads * dims.neurons;
  std::map<std::string, Target> targets{{"embed.weight", {&adapter.embed, 1, dims.vocab, dims.width, false}},
                                        {"lm_head", {&adapter.lm_head, 1, dims.width, dims.vocab, true}}};
  for (int64_t i = 0; i < dims.sets; ++i) {
    LayerAdapter& layer = adapter.layers[static_cast<size_t>(i)];
    const auto add = [&](const char* name, const Target& target) {
      targets[layer_parameter(config, name, i)] = target;
    };
    add("encoder", {&layer.encoder, dims.heads, dims.width, dims.neurons, true});
    add("encoder_v", {&layer.encoder_v, dims.heads, dims.width, dims.neurons, true});
    add("decoder", {&layer.decoder, 1, all, dims.width, false});
  }
  return targets;
}

bool fits(const LowRankUpdate& update, const Target& target) {
  Shape left{target.rows, update.rank}, right{update.rank, target.columns};
  const bool by_head = update.left.shape.size() == 3;
  if (by_head) {
    left.insert(left.begin(), target.heads);
    right.insert(right.begin(), target.heads);
  }
  return (by_head || target.heads == 1) && update.left.shape == left && update.right.shape == right;
}

float finite(float number, const LowRankUpdate& update) {
  if (std::isfinite(number)) return number;
  fail(ErrorKind::invalid_argument, "the adapter's update of '", update.parameter,
       "' holds a number that is not finite; take less of the adapter, or make it anew");
}

// One update's ranks are `first` and those after it.
void put(const Share& share, const Target& target, int64_t first) {
  const LowRankUpdate& update = *share.update;
  const auto* left = reinterpret_cast<const float*>(update.left.data);
  const auto* right = reinterpret_cast<const float*>(update.right.data);
  const LowRank& to = *target.matrix;
  const double scale = share.scale * update.scale;
  for (int64_t head = 0; head < target.heads; ++head) {
    for (int64_t row = 0; row < target.rows; ++row) {
      for (int64_t k = 0; k < update.rank; ++k, ++left) {
        (target.by_column ? to.left.row(head * to.rank + first + k)[row] : to.left.row(row)[first + k]) =
            finite(*left, update);
      }
    }
    for (int64_t k = 0; k < update.rank; ++k) {
      float* out = to.right.row(head * to.rank + first + k);
      for (int64_t column = 0; column < target.columns; ++column, ++right)
        out[column] = finite(static_cast<float>(scale * double{*right}), update);
    }
  }
}

void put_all(const std::vector<Share>& shares, const Target& target) {
  LowRank& matrix = *target.matrix;
  for (const Share& share : shares) matrix.rank += share.update->rank;
  const int64_t low_rows = target.heads * matrix.rank;
  matrix.left = target.by_column ? AdapterRows(low_rows, target.rows) : AdapterRows(target.rows, matrix.rank);
  matrix.right = AdapterRows(low_rows, target.columns);
  int64_t first = 0;
  for (const Share& share : shares) {
    put(share, target, first);
    first += share.update->rank;
  }
}

void add_to_hash(const Share& share, Sha256& sum) {
  const LowRankUpdate& update = *share.update;
  const double scales[] = {share.scale, update.scale};
  const std::string name = concat(update.parameter, " ", update.rank, " ");
  sum.add(std::as_bytes(std::span(name)));
  sum.add(std::as_bytes(std::span(scales)));
  sum.add({update.left.data, update.left.bytes()});
  sum.add({update.right.data, update.right.bytes()});
}

}  // namespace

Model adapted(const Model& model, std::span<const AppliedAdapter> adapters) {
  auto adapter = std::make_shared<Adapter>();
  adapter->layers.resize(static_cast<size_t>(model.config().sets()));
  const std::map<std::string, Target> targets = targets_of(model.config(), *adapter);
  std::map<std::string, std::vector<Share>> shares;
  Sha256 sum;
  for (const AppliedAdapter& applied : adapters) {
    for (const LowRankUpdate& update : applied.adapter.updates) {
      const auto target = targets.find(update.parameter);
      if (target == targets.end() || !fits(update, target->second))
        fail(ErrorKind::invalid_argument, "the adapter's update of '", update.parameter,
             "' does not fit this model: it was made for another");
      shares[update.parameter].push_back({&update, applied.scale});
      add_to_hash(shares[update.parameter].back(), sum);
    }
  }
  for (const auto& [parameter, of_parameter] : shares) put_all(of_parameter, targets.at(parameter));
  adapter->hash = sum.finish();
  Model other = model;
  other.weights = std::make_shared<Weights>(model.weights, std::move(adapter));
  return other;
}

}  // namespace bdh
