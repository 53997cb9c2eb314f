// Which updates several adapters make to each parameter of a model.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "bdh/pretrained/adapters/lora.h"

namespace bdh {

/// An update, and how much of it.
struct UpdateShare {
  const LowRankUpdate* update;
  double scale;
};

/// A parameter (heads, rows, columns), or one of a single head.
struct ByHead {
  int64_t heads, rows, columns;

  explicit ByHead(const Shape& shape)
      : heads(shape.size() == 3 ? shape[0] : 1), rows(shape[shape.size() - 2]), columns(shape.back()) {}
};

/// All that is added to one parameter, in the order of the adapters.
struct ParameterShares {
  ByHead of;
  std::vector<UpdateShare> shares;
};

/// By the parameter's name. Throws Error(invalid_argument) for an update of
/// another parameter or shape than that model's.
std::map<std::string, ParameterShares> shares_of(const Config& config,
                                                 std::span<const AppliedAdapter> adapters);

}  // namespace bdh
