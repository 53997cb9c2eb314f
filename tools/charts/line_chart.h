// Lines over a logarithmic or a linear axis as an SVG picture.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bdh::tools {

enum class LineLook : uint8_t {
  plain,   // a thin line with a point at each value
  strong,  // in front, with a colour of its own
  smooth,  // a line without points
  faint    // behind all others; cut off where it leaves their range
};

struct LineSeries {
  std::string name;
  std::vector<double> values;  // one for each x
  LineLook look = LineLook::plain;
  std::vector<double> x;  // its own, rising; empty: the chart's
};

struct LineChart {
  std::string title, subtitle, x_axis, y_axis;
  std::vector<double> x;  // rising; above 0 where the axis is logarithmic
  std::vector<LineSeries> series;
  double mark = 0;  // a vertical line here, named mark_name; 0: none
  std::string mark_name;
  bool linear = false;  // the x axis, from the first x to the last with round numbers; else each x is marked
};

/// The chart as SVG text.
std::string svg(const LineChart& chart);

}  // namespace bdh::tools
