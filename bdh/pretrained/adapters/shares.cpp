// Updates by parameter.
#include "bdh/pretrained/adapters/shares.h"

#include "bdh/base/error.h"
#include "bdh/model/quantization.h"

namespace bdh {

namespace {

bool fits(const LowRankUpdate& update, const ByHead& of) {
  const ByHead left(update.left.shape), right(update.right.shape);
  return left.heads == of.heads && right.heads == of.heads && left.rows == of.rows &&
         right.columns == of.columns && left.columns == update.rank && right.rows == update.rank;
}

}  // namespace

std::map<std::string, ParameterShares> shares_of(const Config& config,
                                                 std::span<const AppliedAdapter> adapters) {
  const auto named = parameter_shapes(with_weight_bits(config, 0));
  const std::map<std::string, Shape> shapes(named.begin(), named.end());
  std::map<std::string, ParameterShares> shares;
  for (const AppliedAdapter& applied : adapters) {
    for (const LowRankUpdate& update : applied.adapter.updates) {
      const auto found = shapes.find(update.parameter);
      if (found == shapes.end() || update.parameter == kFreqs || !fits(update, ByHead(found->second)))
        fail(ErrorKind::invalid_argument, "the adapter's update of '", update.parameter,
             "' does not fit this model: it was made for another");
      const auto [place, is_first] =
          shares.try_emplace(update.parameter, ParameterShares{ByHead(found->second), {}});
      place->second.shares.push_back({&update, applied.scale});
    }
  }
  return shares;
}

}  // namespace bdh
