// The loss of a training run by step, as an SVG picture.
#include "tools/charts/loss_curve.h"

#include <algorithm>
#include <vector>

#include "bdh/base/error.h"
#include "tools/charts/line_chart.h"

namespace bdh::tools {
namespace {

constexpr size_t kMostPoints = 400;  // of a line
constexpr size_t kWindows = 40;      // the running mean is over this part of the steps

/// The points, at most kMostPoints of them, the first and the last too, as `value` has them by their number.
template <class Value>
LineSeries series_of(std::string name, LineLook look, const std::vector<LossPoint>& points, Value value) {
  LineSeries series{std::move(name), {}, look, {}};
  const size_t count = std::min(points.size(), kMostPoints);
  for (size_t i = 0; i < count; ++i) {
    const size_t at = count > 1 ? i * (points.size() - 1) / (count - 1) : 0;
    series.x.push_back(static_cast<double>(points[at].step));
    series.values.push_back(value(at));
  }
  return series;
}

/// Sums of the first losses: of none, of one, ..
std::vector<double> sums_of(const std::vector<LossPoint>& points) {
  std::vector<double> sums{0};
  for (const LossPoint& point : points) sums.push_back(sums.back() + point.loss);
  return sums;
}

LineSeries running_mean(const std::vector<LossPoint>& points) {
  const std::vector<double> sums = sums_of(points);
  const size_t reach = points.size() / kWindows / 2;  // points on either side
  return series_of(concat("mean of ", 2 * reach + 1, " steps"), LineLook::smooth, points, [&](size_t at) {
    const size_t near = std::min(reach, at), begin = at - near, end = std::min(at + near + 1, points.size());
    return (sums[end] - sums[begin]) / static_cast<double>(end - begin);
  });
}

LineSeries losses(std::string name, LineLook look, const std::vector<LossPoint>& points) {
  return series_of(std::move(name), look, points, [&](size_t at) { return points[at].loss; });
}

}  // namespace

std::string loss_curve_svg(const LossHistory& history, const std::string& title,
                           const std::string& subtitle) {
  LineChart chart;
  chart.title = title;
  chart.subtitle = subtitle;
  chart.x_axis = "step";
  chart.y_axis = "nats per token";
  chart.linear = true;
  if (!history.train.empty()) {
    chart.series.push_back(losses("loss of a step", LineLook::faint, history.train));
    chart.series.push_back(running_mean(history.train));
  }
  if (!history.validation.empty())
    chart.series.push_back(losses("validation", LineLook::strong, history.validation));
  for (const LineSeries& series : chart.series)
    chart.x.insert(chart.x.end(), series.x.begin(), series.x.end());
  std::sort(chart.x.begin(), chart.x.end());
  return svg(chart);
}

}  // namespace bdh::tools
