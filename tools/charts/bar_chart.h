// A grouped bar chart of shares as an SVG picture.
#pragma once

#include <string>
#include <vector>

namespace bdh::tools {

struct BarSeries {
  std::string name;
  std::vector<double> values;  // from 0 to 1, one for each group
};

struct BarChart {
  std::string title, subtitle, group_axis, value_axis;
  std::vector<std::string> groups;
  std::vector<BarSeries> series;  // at most five have a colour of their own
};

/// The chart as SVG text. Values are drawn as percentages.
std::string svg(const BarChart& chart);

}  // namespace bdh::tools
