// Draws lines over a logarithmic axis.
#include "tools/line_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "bdh/base/error.h"
#include "tools/cli/svg.h"

namespace bdh::tools {
namespace {

// Pixels.
constexpr double kLeft = 72, kTop = 76, kWidth = 560, kHeight = 320, kKey = 190, kBottom = 60, kLine = 18;
// Okabe and Ito's palette: told apart by colour-blind readers and in grey.
constexpr std::array<const char*, 6> kColours{"#0072b2", "#e69f00", "#009e73",
                                              "#cc79a7", "#56b4e9", "#d55e00"};
constexpr const char* kStrong = "#000000";

struct Plot {
  double left, right, low, high;  // log2 of x, and y
  double x(double value) const { return kLeft + kWidth * (std::log2(value) - left) / (right - left); }
  double y(double value) const { return kTop + kHeight * (high - value) / (high - low); }
};

Plot plot_of(const LineChart& chart) {
  double low = chart.series.front().values.front(), high = low;
  for (const LineSeries& series : chart.series) {
    for (const double value : series.values) {
      low = std::min(low, value);
      high = std::max(high, value);
    }
  }
  const double margin = std::max(0.05 * (high - low), 1e-3), left = std::log2(chart.x.front());
  return {left, std::max(std::log2(chart.x.back()), left + 1), low - margin, high + margin};
}

std::string two_digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string grid(const LineChart& chart, const Plot& plot) {
  constexpr int kTicks = 5;
  std::string shapes;
  for (int i = 0; i <= kTicks; ++i) {
    const double value = plot.low + (plot.high - plot.low) * i / kTicks;
    shapes += svg_line(kLeft, plot.y(value), kLeft + kWidth, plot.y(value), "stroke=\"#ddd\"");
    shapes += svg_text(kLeft - 8, plot.y(value) + 4, "font-size=\"11\" text-anchor=\"end\" fill=\"#555\"",
                       two_digits(value));
  }
  for (const double x : chart.x) {
    shapes += svg_line(plot.x(x), kTop, plot.x(x), kTop + kHeight, "stroke=\"#eee\"");
    shapes += svg_text(plot.x(x), kTop + kHeight + 16,
                       "font-size=\"11\" text-anchor=\"middle\" fill=\"#555\"", concat(x));
  }
  return shapes + svg_text(kLeft + kWidth / 2, kTop + kHeight + 40, "font-size=\"12\" text-anchor=\"middle\"",
                           chart.x_axis);
}

std::string line_of(const LineChart& chart, const Plot& plot, const LineSeries& series,
                    const std::string& colour, const std::string& style) {
  std::string shapes;
  for (size_t i = 0; i + 1 < series.values.size(); ++i) {
    shapes += svg_line(plot.x(chart.x[i]), plot.y(series.values[i]), plot.x(chart.x[i + 1]),
                       plot.y(series.values[i + 1]), style);
  }
  for (size_t i = 0; i < series.values.size(); ++i)
    shapes += svg_circle(plot.x(chart.x[i]), plot.y(series.values[i]), series.strong ? 4 : 2.5, colour);
  return shapes;
}

std::string mark(const LineChart& chart, const Plot& plot) {
  if (chart.mark <= chart.x.front() || chart.mark > chart.x.back()) return "";
  const double x = plot.x(chart.mark);
  return svg_line(x, kTop, x, kTop + kHeight, "stroke=\"#444\" stroke-dasharray=\"4 4\"") +
         svg_text(x + 4, kTop + 12, "font-size=\"11\" fill=\"#444\"", chart.mark_name);
}

}  // namespace

std::string svg(const LineChart& chart) {
  const Plot plot = plot_of(chart);
  std::string shapes = svg_text(24, 30, "font-size=\"18\" font-weight=\"bold\"", chart.title) +
                       svg_text(24, 52, "font-size=\"12\" fill=\"#555\"", chart.subtitle) +
                       svg_text(kLeft - 48, kTop - 8, "font-size=\"12\"", chart.y_axis) + grid(chart, plot) +
                       mark(chart, plot);
  std::string strong;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const LineSeries& series = chart.series[i];
    const char* colour = series.strong ? kStrong : kColours[i % kColours.size()];
    const std::string style = concat("stroke=\"", colour, "\" stroke-width=\"", series.strong ? 3 : 1.5, "\"",
                                     i < kColours.size() ? "" : " stroke-dasharray=\"5 3\"");
    const double key = kLeft + kWidth + 20, y = kTop + 10 + kLine * static_cast<double>(i);
    (series.strong ? strong : shapes) += line_of(chart, plot, series, colour, style);
    shapes += svg_line(key, y - 4, key + 20, y - 4, style);
    shapes +=
        svg_text(key + 26, y, series.strong ? "font-size=\"12\" font-weight=\"bold\"" : "font-size=\"12\"",
                 series.name);
  }
  return svg_picture(kLeft + kWidth + kKey, kTop + kHeight + kBottom, shapes + strong);
}

}  // namespace bdh::tools
