// Draws lines over a logarithmic or a linear axis.
#include "tools/charts/line_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <utility>

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
constexpr const char* kFaint = "#9cc9e3";

struct Plot {
  bool linear;
  double left, right, low, high;  // x, or log2 of it, and y

  double scaled(double value) const { return linear ? value : std::log2(value); }
  double x(double value) const { return kLeft + kWidth * (scaled(value) - left) / (right - left); }
  double y(double value) const {
    return kTop + kHeight * (high - std::clamp(value, low, high)) / (high - low);
  }
};

const std::vector<double>& x_of(const LineChart& chart, const LineSeries& series) {
  return series.x.empty() ? chart.x : series.x;
}

/// Whether the chart has nothing but faint lines.
bool all_faint(const LineChart& chart) {
  return std::all_of(chart.series.begin(), chart.series.end(),
                     [](const LineSeries& series) { return series.look == LineLook::faint; });
}

/// The least and the largest value.
std::pair<double, double> range_of(const LineChart& chart) {
  std::vector<double> values;
  const bool faint = all_faint(chart);
  for (const LineSeries& series : chart.series) {
    if (series.look == LineLook::faint && !faint) continue;
    values.insert(values.end(), series.values.begin(), series.values.end());
  }
  if (values.empty()) return {0, 1};
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return {*low, *high};
}

Plot plot_of(const LineChart& chart) {
  const auto [low, high] = range_of(chart);
  const double margin = std::max(0.05 * (high - low), 1e-3);
  Plot plot{chart.linear, 0, 1, low - margin, high + margin};
  if (chart.x.empty()) return plot;
  plot.left = plot.scaled(chart.x.front());
  plot.right = std::max(plot.scaled(chart.x.back()), plot.left + 1);
  return plot;
}

std::string two_digits(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", value);
  return text;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.15g", value);
  return text;
}

/// About six round numbers, 1, 2 or 5 times a power of ten apart.
std::vector<double> round_numbers(double left, double right) {
  const double apart = (right - left) / 6, power = std::pow(10, std::floor(std::log10(apart)));
  const double factor = apart / power;
  const double step = power * (factor > 5 ? 10 : factor > 2 ? 5 : factor > 1 ? 2 : 1);
  std::vector<double> numbers;
  for (double i = std::ceil(left / step); i * step <= right; ++i) numbers.push_back(i * step);
  return numbers;
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
  for (const double x : chart.linear ? round_numbers(plot.left, plot.right) : chart.x) {
    shapes += svg_line(plot.x(x), kTop, plot.x(x), kTop + kHeight, "stroke=\"#eee\"");
    shapes += svg_text(plot.x(x), kTop + kHeight + 16,
                       "font-size=\"11\" text-anchor=\"middle\" fill=\"#555\"", number(x));
  }
  return shapes + svg_text(kLeft + kWidth / 2, kTop + kHeight + 40, "font-size=\"12\" text-anchor=\"middle\"",
                           chart.x_axis);
}

bool has_points(LineLook look) { return look == LineLook::plain || look == LineLook::strong; }

std::string line_of(const LineChart& chart, const Plot& plot, const LineSeries& series,
                    const std::string& colour, const std::string& style) {
  std::vector<std::pair<double, double>> points;
  for (size_t i = 0; i < series.values.size(); ++i)
    points.emplace_back(plot.x(x_of(chart, series)[i]), plot.y(series.values[i]));
  std::string shapes = svg_polyline(points, style);
  if (!has_points(series.look)) return shapes;
  for (const auto& [x, y] : points)
    shapes += svg_circle(x, y, series.look == LineLook::strong ? 4 : 2.5, colour);
  return shapes;
}

std::string mark(const LineChart& chart, const Plot& plot) {
  if (chart.x.empty() || chart.mark <= chart.x.front() || chart.mark > chart.x.back()) return "";
  const double x = plot.x(chart.mark);
  return svg_line(x, kTop, x, kTop + kHeight, "stroke=\"#444\" stroke-dasharray=\"4 4\"") +
         svg_text(x + 4, kTop + 12, "font-size=\"11\" fill=\"#444\"", chart.mark_name);
}

const char* colour_of(LineLook look, size_t index) {
  if (look == LineLook::strong) return kStrong;
  return look == LineLook::faint ? kFaint : kColours[index % kColours.size()];
}

double width_of(LineLook look) {
  if (look == LineLook::strong) return 3;
  return look == LineLook::smooth ? 2 : look == LineLook::faint ? 1 : 1.5;
}

}  // namespace

std::string svg(const LineChart& chart) {
  const Plot plot = plot_of(chart);
  std::string behind = svg_text(24, 30, "font-size=\"18\" font-weight=\"bold\"", chart.title) +
                       svg_text(24, 52, "font-size=\"12\" fill=\"#555\"", chart.subtitle) +
                       svg_text(kLeft - 48, kTop - 8, "font-size=\"12\"", chart.y_axis) + grid(chart, plot) +
                       mark(chart, plot);
  std::string shapes, strong;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const LineSeries& series = chart.series[i];
    const bool in_front = series.look == LineLook::strong;
    const char* colour = colour_of(series.look, i);
    const std::string style = concat("stroke=\"", colour, "\" stroke-width=\"", width_of(series.look), "\"",
                                     i < kColours.size() ? "" : " stroke-dasharray=\"5 3\"");
    const double key = kLeft + kWidth + 20, y = kTop + 10 + kLine * static_cast<double>(i);
    (in_front                         ? strong
     : series.look == LineLook::faint ? behind
                                      : shapes) += line_of(chart, plot, series, colour, style);
    shapes += svg_line(key, y - 4, key + 20, y - 4, style);
    shapes += svg_text(key + 26, y, in_front ? "font-size=\"12\" font-weight=\"bold\"" : "font-size=\"12\"",
                       series.name);
  }
  return svg_picture(kLeft + kWidth + kKey, kTop + kHeight + kBottom, behind + shapes + strong);
}

}  // namespace bdh::tools
