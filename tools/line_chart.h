// Lines over a logarithmic axis as an SVG picture.
#pragma once

#include <string>
#include <vector>

namespace bdh::tools {

struct LineSeries {
  std::string name;
  std::vector<double> values;  // one for each x
  bool strong = false;         // drawn in front, with a colour of its own
};

struct LineChart {
  std::string title, subtitle, x_axis, y_axis;
  std::vector<double> x;  // rising, above 0
  std::vector<LineSeries> series;
  double mark = 0;  // a vertical line here, named mark_name; 0: none
  std::string mark_name;
};

/// The chart as SVG text.
std::string svg(const LineChart& chart);

}  // namespace bdh::tools
