// Which entries of a state_dict an optimizer's numbered parameters are, by order and shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bdh/base/tensor.h"

namespace bdh {

enum class Fit : uint8_t { none, one, several };

/// The entries keep their order within each group; an entry belongs to one group at most. (*places)[g][i]:
/// the entry that parameter i of group g is, where one assignment alone fits. Several: also where following
/// all would take too long.
Fit match_in_order(const std::vector<Shape>& entries, const std::vector<std::vector<Shape>>& groups,
                   std::vector<std::vector<size_t>>* places);

}  // namespace bdh
