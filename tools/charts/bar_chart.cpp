// A grouped bar chart of shares as an SVG picture.
#include "tools/charts/bar_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>

namespace bdh::tools {
namespace {

// Everything is in pixels.
constexpr double kLeft = 80, kRight = 24, kTop = 104, kBottom = 64, kPlotHeight = 320;
constexpr double kBar = 26, kGroupGap = 28, kNarrowestPlot = 520;
constexpr double kLegendStep = 150, kSwatch = 14;
constexpr size_t kLabelledBars = 48;  // more bars than this go without numbers
constexpr size_t kGroupLabels = 32;   // about so many group names at most
constexpr int kTicks = 5;
// Okabe and Ito's palette: told apart by colour-blind readers and in grey.
constexpr std::array<const char*, 5> kColours{"#0072b2", "#56b4e9", "#e69f00", "#d55e00", "#009e73"};

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (static_cast<unsigned char>(c) >= 0x20)
      out += c;
  }
  return out;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

std::string percent(double value) {
  char text[32];
  std::snprintf(text, sizeof text, value < 0.1 ? "%.1f" : "%.0f", 100 * value);
  return text;
}

struct TextStyle {
  int size;
  const char* anchor;
  const char* extra = "";
};

std::string text_at(double x, double y, const TextStyle& style, std::string_view text) {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" font-size=\"" + std::to_string(style.size) +
         "\" text-anchor=\"" + style.anchor + "\"" + style.extra + ">" + escaped(text) + "</text>\n";
}

std::string rectangle(double x, double y, double width, double height, const char* colour) {
  return "<rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" + number(width) + "\" height=\"" +
         number(height) + "\" fill=\"" + colour + "\"/>\n";
}

/// Where things go, worked out once.
struct Layout {
  double plot_width, group_width, bar_width, tick, top_value;

  explicit Layout(const BarChart& chart) {
    const auto groups = static_cast<double>(std::max<size_t>(1, chart.groups.size()));
    const auto bars = static_cast<double>(std::max<size_t>(1, chart.series.size()));
    plot_width = std::max(kNarrowestPlot, groups * (bars * kBar + kGroupGap));
    group_width = plot_width / groups;
    bar_width = std::min(2 * kBar, (group_width - kGroupGap) / bars);
    double largest = 0.01;
    for (const BarSeries& series : chart.series)
      for (const double value : series.values) largest = std::max(largest, value);
    tick = tick_for(largest);
    top_value = tick * std::ceil(largest / tick);
  }

  double y(double value) const { return kTop + kPlotHeight * (1 - value / top_value); }
  double group_middle(size_t group) const { return kLeft + group_width * (static_cast<double>(group) + 0.5); }

 private:
  /// The smallest of 1, 2, 5, 10, 20, ... per cent that needs at most kTicks steps.
  static double tick_for(double largest) {
    for (const double step : {0.01, 0.02, 0.05, 0.1})
      if (largest <= kTicks * step) return step;
    return 0.2;
  }
};

std::string axes(const BarChart& chart, const Layout& layout) {
  std::string out;
  const double right = kLeft + layout.plot_width, bottom = kTop + kPlotHeight;
  const auto steps = static_cast<int>(std::lround(layout.top_value / layout.tick));
  for (int i = 0; i <= steps; ++i) {
    const double y = layout.y(i * layout.tick);
    out += rectangle(kLeft, y - 0.5, layout.plot_width, 1, i == 0 ? "#333333" : "#dddddd");
    out += text_at(kLeft - 10, y + 5, {14, "end"}, std::to_string(std::lround(100 * i * layout.tick)) + " %");
  }
  const size_t every = 1 + (chart.groups.size() - 1) / kGroupLabels;
  for (size_t i = 0; i < chart.groups.size(); i += every)
    out += text_at(layout.group_middle(i), bottom + 22, {14, "middle"}, chart.groups[i]);
  out += text_at((kLeft + right) / 2, bottom + 48, {15, "middle"}, chart.group_axis);
  const std::string turn = " transform=\"rotate(-90 22 " + number(kTop + kPlotHeight / 2) + ")\"";
  return out + text_at(22, kTop + kPlotHeight / 2, {15, "middle", turn.c_str()}, chart.value_axis);
}

std::string legend(const BarChart& chart) {
  std::string out;
  double x = kLeft;
  for (size_t i = 0; i < chart.series.size(); ++i, x += kLegendStep) {
    out += rectangle(x, 70, kSwatch, kSwatch, kColours[i % kColours.size()]);
    out += text_at(x + kSwatch + 7, 82, {14, "start"}, chart.series[i].name);
  }
  return out;
}

std::string bars(const BarChart& chart, const Layout& layout) {
  std::string out;
  const bool labelled = chart.groups.size() * chart.series.size() <= kLabelledBars;
  const double half = layout.bar_width * static_cast<double>(chart.series.size()) / 2;
  for (size_t s = 0; s < chart.series.size(); ++s) {
    for (size_t g = 0; g < chart.series[s].values.size(); ++g) {
      const double value = chart.series[s].values[g], y = layout.y(value);
      const double x = layout.group_middle(g) - half + layout.bar_width * static_cast<double>(s);
      out += rectangle(x + 1, y, layout.bar_width - 2, kTop + kPlotHeight - y, kColours[s % kColours.size()]);
      if (labelled) out += text_at(x + layout.bar_width / 2, y - 4, {12, "middle"}, percent(value));
    }
  }
  return out;
}

}  // namespace

std::string svg(const BarChart& chart) {
  const Layout layout(chart);
  const std::string width = number(kLeft + layout.plot_width + kRight),
                    height = number(kTop + kPlotHeight + kBottom);
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + width + "\" height=\"" + height +
         "\" viewBox=\"0 0 " + width + " " + height +
         "\" font-family=\"DejaVu Sans, Arial, sans-serif\" fill=\"#222222\">\n" +
         "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n" +
         text_at(kLeft, 32, {20, "start", " font-weight=\"bold\""}, chart.title) +
         text_at(kLeft, 54, {14, "start", " fill=\"#555555\""}, chart.subtitle) + legend(chart) +
         axes(chart, layout) + bars(chart, layout) + "</svg>\n";
}

}  // namespace bdh::tools
