// Follows every way in which the entries of a state_dict, one after the other, can be the next parameter of a
// group, or none.
#include "bdh/train/parameter_order.h"

#include <algorithm>
#include <map>
#include <optional>

namespace bdh {
namespace {

constexpr size_t kMostStates = 2000;  // that are followed side by side
constexpr size_t kMostWork = size_t{1} << 20;

// How many parameters of each group have their entry.
using Counts = std::vector<uint32_t>;

struct Way {
  int ways = 0;                 // that lead here; 2: more than one
  std::optional<size_t> group;  // that took the entry; none: no group
};
using Level = std::map<Counts, Way>;

Level next_level(const Level& level, const Shape& entry, const std::vector<std::vector<Shape>>& groups) {
  Level next;
  const auto arrive = [&](const Counts& counts, int ways, std::optional<size_t> group) {
    Way& way = next[counts];
    way.ways = std::min(2, way.ways + ways);
    way.group = group;
  };
  for (const auto& [counts, way] : level) {
    arrive(counts, way.ways, {});
    for (size_t g = 0; g < groups.size(); ++g) {
      if (counts[g] == groups[g].size() || groups[g][counts[g]] != entry) continue;
      Counts taken = counts;
      ++taken[g];
      arrive(taken, way.ways, g);
    }
  }
  return next;
}

}  // namespace

Fit match_in_order(const std::vector<Shape>& entries, const std::vector<std::vector<Shape>>& groups,
                   std::vector<std::vector<size_t>>* places) {
  std::vector<Level> levels{{{Counts(groups.size()), {1, {}}}}};
  size_t work = 0;
  for (const Shape& entry : entries) {
    levels.push_back(next_level(levels.back(), entry, groups));
    work += levels.back().size() * groups.size();
    if (levels.back().size() > kMostStates || work > kMostWork) return Fit::several;
  }
  Counts counts;
  for (const auto& group : groups) counts.push_back(static_cast<uint32_t>(group.size()));
  const auto end = levels.back().find(counts);
  if (end == levels.back().end()) return Fit::none;
  if (end->second.ways > 1) return Fit::several;
  places->clear();
  for (const auto& group : groups) places->emplace_back(group.size());
  for (size_t i = entries.size(); i-- > 0;) {
    const std::optional<size_t> group = levels[i + 1].at(counts).group;
    if (group) (*places)[*group][--counts[*group]] = i;
  }
  return Fit::one;
}

}  // namespace bdh
