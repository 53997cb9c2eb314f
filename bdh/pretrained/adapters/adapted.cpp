// Adapters as kernels apply them, beside the weights.
#include <cmath>
#include <map>
#include <memory>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/sha256.h"
#include "bdh/pretrained/adapters/shares.h"
#include "kernels/adapter.h"

namespace bdh {

namespace {

// Where a parameter's updates go. by_column: left is kept transposed.
struct Target {
  LowRank* matrix;
  bool by_column;
};

std::map<std::string, Target> targets_in(Adapter& adapter, const Config& config) {
  std::map<std::string, Target> targets{{"embed.weight", {&adapter.embed, false}},
                                        {"lm_head", {&adapter.lm_head, true}}};
  for (int64_t i = 0; i < config.sets(); ++i) {
    LayerAdapter& layer = adapter.layers[static_cast<size_t>(i)];
    targets[layer_parameter(config, "encoder", i)] = {&layer.encoder, true};
    targets[layer_parameter(config, "encoder_v", i)] = {&layer.encoder_v, true};
    targets[layer_parameter(config, "decoder", i)] = {&layer.decoder, false};
  }
  return targets;
}

float finite(float number, const LowRankUpdate& update) {
  if (std::isfinite(number)) return number;
  fail(ErrorKind::invalid_argument, "the adapter's update of '", update.parameter,
       "' holds a number that is not finite; take less of the adapter, or make it anew");
}

// One update's ranks are `first` and those after it.
void put(const UpdateShare& share, const Target& target, const ByHead& of, int64_t first) {
  const LowRankUpdate& update = *share.update;
  const auto* left = reinterpret_cast<const float*>(update.left.data);
  const auto* right = reinterpret_cast<const float*>(update.right.data);
  const LowRank& to = *target.matrix;
  const double scale = share.scale * update.scale;
  for (int64_t head = 0; head < of.heads; ++head) {
    for (int64_t row = 0; row < of.rows; ++row) {
      for (int64_t k = 0; k < update.rank; ++k, ++left) {
        (target.by_column ? to.left.row(head * to.rank + first + k)[row] : to.left.row(row)[first + k]) =
            finite(*left, update);
      }
    }
    for (int64_t k = 0; k < update.rank; ++k) {
      float* out = to.right.row(head * to.rank + first + k);
      for (int64_t column = 0; column < of.columns; ++column, ++right)
        out[column] = finite(static_cast<float>(scale * double{*right}), update);
    }
  }
}

void put_all(const ParameterShares& parameter, const Target& target) {
  const auto& [of, shares] = parameter;
  LowRank& matrix = *target.matrix;
  for (const UpdateShare& share : shares) matrix.rank += share.update->rank;
  const int64_t low_rows = of.heads * matrix.rank;
  matrix.left = target.by_column ? AdapterRows(low_rows, of.rows) : AdapterRows(of.rows, matrix.rank);
  matrix.right = AdapterRows(low_rows, of.columns);
  int64_t first = 0;
  for (const UpdateShare& share : shares) {
    put(share, target, of, first);
    first += share.update->rank;
  }
}

void add_to_hash(const UpdateShare& share, Sha256& sum) {
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
  const std::map<std::string, Target> targets = targets_in(*adapter, model.config());
  Sha256 sum;
  for (const auto& [parameter, of_parameter] : shares_of(model.config(), adapters)) {
    for (const UpdateShare& share : of_parameter.shares) add_to_hash(share, sum);
    put_all(of_parameter, targets.at(parameter));
  }
  adapter->hash = sum.finish();
  Model other = model;
  other.weights = std::make_shared<Weights>(model.weights, std::move(adapter));
  return other;
}

}  // namespace bdh
