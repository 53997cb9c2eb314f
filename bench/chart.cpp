// Draws the bars and the roofline from a report's JSON.
#include "bench/chart.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string_view>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bench/report.h"
#include "tools/cli/svg.h"

namespace bdh::bench {

using tools::svg_circle, tools::svg_diamond, tools::svg_line, tools::svg_picture, tools::svg_rectangle,
    tools::svg_text;

namespace {

// Told apart by colour-blind readers and in grey.
constexpr const char* kMemoryColour = "#0072b2";
constexpr const char* kCacheColour = "#56b4e9";
constexpr const char* kProductColour = "#e69f00";

const Json& member(const Json& object, std::string_view key) {
  if (const Json* found = object.find(key)) return *found;
  fail(ErrorKind::bad_file, "these are no results of bdh-bench: '", key, "' is missing");
}

std::string text(const Json& object, std::string_view key) { return member(object, key).as_string(); }
double number(const Json& object, std::string_view key) { return member(object, key).as_number(); }
double number_or_zero(const Json& object, std::string_view key) {
  const Json* found = object.find(key);
  return found ? found->as_number() : 0;
}

const char* colour_of(const std::string& limit) {
  if (limit.find("memory") != std::string::npos) return kMemoryColour;
  return limit.find("product") == std::string::npos && limit.find("sgemm") == std::string::npos
             ? kCacheColour
             : kProductColour;
}

std::string threads_of(const Json& result) {
  const int64_t threads = member(result, "threads").as_integer();
  return threads == 0 ? "" : concat(", ", threads, threads == 1 ? " thread" : " threads");
}

std::string label_of(const Json& result) {
  return concat(text(result, "name"), ", ", text(result, "shape"), ", ", text(result, "dtype"),
                threads_of(result));
}

std::string caption_of(const Json& report) {
  return concat(text(report, "device"), "; ", text(report, "date"), "; ", text(report, "peer"));
}

std::string rate_text(double rate, const char* unit) {
  return rate < 1e12 ? concat(format_number(rate / 1e9), " G", unit)
                     : concat(format_number(rate / 1e12), " T", unit);
}

// Those of a kind that were judged by a limit; of several ways to do a kernel's work the first.
std::vector<const Json*> judged(const Json& report, std::string_view kind) {
  std::vector<const Json*> found;
  std::set<std::string> seen;
  for (const Json& result : member(report, "results").as_array()) {
    if (text(result, "kind") == kind && number_or_zero(result, "share") > 0 &&
        seen.insert(label_of(result)).second)
      found.push_back(&result);
  }
  return found;
}

// The first eight paths that differ in more than how they were read, at the most threads.
std::vector<const Json*> headlines(const Json& report) {
  constexpr size_t kMost = 8;
  const std::vector<const Json*> paths = judged(report, "path");
  int64_t threads = 0;
  for (const Json* path : paths) threads = std::max(threads, member(*path, "threads").as_integer());
  std::vector<const Json*> chosen;
  std::set<std::string> seen;
  for (const Json* path : paths) {
    const std::string shape = text(*path, "shape"), model = shape.substr(0, shape.find(','));
    const bool wanted = member(*path, "threads").as_integer() == threads && text(*path, "dtype") != "f16";
    if (wanted && chosen.size() < kMost &&
        seen.insert(concat(text(*path, "name"), ", ", model, ", ", text(*path, "dtype"))).second)
      chosen.push_back(path);
  }
  return chosen;
}

// ---- bars ----

namespace bars {

// Pixels.
constexpr double kTop = 104, kLine = 19, kBarHeight = 12, kLabel = 372, kPlot = 250, kRemark = 288,
                 kMargin = 24, kGap = 28;
constexpr double kPanel = kLabel + kPlot + kRemark;
constexpr double kMost = 1.1;  // the share at the right end
constexpr const char* kMark = "stroke=\"#222\" stroke-width=\"2\"";

double width_of(double share) { return kPlot * std::min(share, kMost) / kMost; }

std::string path_remark(const Json& result) {
  std::string remark = format_seconds(number(result, "median") / number(result, "tokens"));
  const Json* peers = result.find("faster_than");
  if (!peers) return remark;
  std::string separator = "; PyTorch x ";
  for (const auto& [name, ratio] : peers->as_object()) {
    remark += separator + format_number(ratio.as_number());
    separator = ", ";
  }
  return remark;
}

std::string kernel_remark(const Json& result) {
  const double bytes = number(result, "bytes") + number_or_zero(result, "cached_bytes"),
               median = number(result, "median");
  const bool computes = colour_of(text(result, "limit_by")) == kProductColour;
  const double work = computes ? number(result, "flops") : bytes;
  return concat(format_seconds(median), ", ", rate_text(work / median, computes ? "FLOP/s" : "B/s"));
}

std::string axis(double plot, double bottom) {
  std::string svg;
  for (int percent = 0; percent <= 100; percent += 20) {
    const double x = plot + width_of(percent / 100.0);
    svg += svg_line(x, kTop - 4, x, bottom, percent == 100 ? "stroke=\"#444\"" : "stroke=\"#ddd\"");
    svg += svg_text(x, kTop - 8, "font-size=\"10\" text-anchor=\"middle\" fill=\"#555\"",
                    concat(percent, percent == 100 ? " %" : ""));
  }
  return svg;
}

// The share of the limit by its median, where it has one.
std::string usual_mark(const Json& result, double plot, double y) {
  const double share = number_or_zero(result, "share_by_medians");
  if (share <= 0) return "";
  const double x = plot + width_of(share);
  return svg_line(x, y - 1, x, y + kBarHeight + 1, kMark);
}

std::string panel(double left, const std::string& title, const std::vector<const Json*>& results,
                  std::string (*remark)(const Json&)) {
  if (results.empty()) return "";
  const double plot = left + kLabel;
  std::string svg = svg_text(plot, kTop - 26, "font-size=\"14\" font-weight=\"bold\"", title) +
                    axis(plot, kTop + kLine * static_cast<double>(results.size()));
  double y = kTop + (kLine - kBarHeight) / 2;
  for (const Json* result : results) {
    const double share = number(*result, "share");
    svg += svg_text(plot - 8, y + 10, "font-size=\"11\" text-anchor=\"end\"", label_of(*result));
    svg += svg_rectangle(plot, y, width_of(share), kBarHeight, colour_of(text(*result, "limit_by")));
    svg += usual_mark(*result, plot, y);
    svg += svg_text(plot + kPlot + 10, y + 10, "font-size=\"11\" fill=\"#333\"",
                    concat(format_share(share), ", ", remark(*result)));
    y += kLine;
  }
  return svg;
}

std::string legend() {
  std::string svg;
  double left = kMargin;
  const std::pair<const char*, const char*> entries[] = {{kMemoryColour, "limit: memory"},
                                                         {kCacheColour, "limit: a cache"},
                                                         {kProductColour, "limit: matrix products"}};
  for (const auto& [colour, what] : entries) {
    svg += svg_rectangle(left, 46, 12, 12, colour);
    svg += svg_text(left + 18, 56, "font-size=\"12\"", what);
    left += 180;
  }
  svg += svg_line(left + 6, 46, left + 6, 58, kMark);
  return svg + svg_text(left + 18, 56, "font-size=\"12\"", "share of the limit by its median");
}

}  // namespace bars

// ---- roofline ----

namespace roofline {

// Pixels.
constexpr double kLeft = 76, kTop = 64, kPlotWidth = 620, kPlotHeight = 480, kKey = 470, kLine = 17,
                 kBottom = 60;

// Powers of ten.
struct Range {
  int low, high;
  double place(double value) const { return (std::log10(value) - low) / (high - low); }
};

struct Plot {
  Range intensity, rate;
  double x(double value) const { return kLeft + kPlotWidth * intensity.place(value); }
  double y(double value) const { return kTop + kPlotHeight * (1 - rate.place(value)); }
};

struct Point {
  double intensity, rate;
  std::string label;
  const char* colour;
  bool path;
};

std::vector<Point> points_of(const Json& report) {
  std::vector<Point> points;
  for (const char* kind : {"kernel", "path"}) {
    for (const Json* result : judged(report, kind)) {
      const double bytes = number(*result, "bytes") + number_or_zero(*result, "cached_bytes"),
                   flops = number(*result, "flops"), median = number(*result, "median");
      if (bytes <= 0 || flops <= 0) continue;
      points.push_back({flops / bytes, flops / median,
                        concat(label_of(*result), ": ", format_share(number(*result, "share"))),
                        colour_of(text(*result, "limit_by")), std::string_view(kind) == "path"});
    }
  }
  return points;
}

// Whole powers of ten around all points and the roofs of flops.
Plot plot_of(const std::vector<Point>& points, const Json& report) {
  Plot plot{{-1, 3}, {9, 12}};
  const auto widen = [](Range& range, double value) {
    if (value <= 0 || !std::isfinite(value)) return;
    range = {std::min(range.low, static_cast<int>(std::floor(std::log10(value)))),
             std::max(range.high, static_cast<int>(std::ceil(std::log10(value))))};
  };
  for (const Point& point : points) {
    widen(plot.intensity, point.intensity);
    widen(plot.rate, point.rate);
  }
  for (const Json& roof : member(report, "roofs").as_array())
    if (text(roof, "unit") == "flops") widen(plot.rate, number(roof, "rate"));
  return plot;
}

std::string power(int exponent, std::string_view unit) {
  constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P"};
  const int index = std::clamp(exponent / 3, 0, 5);
  return concat(std::pow(10, exponent - 3 * index), " ", kPrefixes[index], unit);
}

std::string grid(const Plot& plot) {
  std::string svg;
  for (int e = plot.intensity.low; e <= plot.intensity.high; ++e) {
    const double x = plot.x(std::pow(10, e));
    svg += svg_line(x, kTop, x, kTop + kPlotHeight, "stroke=\"#ddd\"");
    svg += svg_text(x, kTop + kPlotHeight + 16, "font-size=\"11\" text-anchor=\"middle\" fill=\"#555\"",
                    concat(std::pow(10, e)));
  }
  for (int e = plot.rate.low; e <= plot.rate.high; ++e) {
    const double y = plot.y(std::pow(10, e));
    svg += svg_line(kLeft, y, kLeft + kPlotWidth, y, "stroke=\"#ddd\"");
    svg +=
        svg_text(kLeft - 6, y + 4, "font-size=\"11\" text-anchor=\"end\" fill=\"#555\"", power(e, "FLOP/s"));
  }
  return svg + svg_text(kLeft + kPlotWidth / 2, kTop + kPlotHeight + 38,
                        "font-size=\"12\" text-anchor=\"middle\"", "needed flops for each needed byte");
}

// From where it enters the plot to the highest roof of flops, or to the right edge.
std::string roof_line(const Plot& plot, const Json& roof, double highest) {
  const double rate = number(roof, "rate"), left = std::pow(10, plot.intensity.low),
               right = std::pow(10, plot.intensity.high), floor = std::pow(10, plot.rate.low);
  const bool flops = text(roof, "unit") == "flops";
  const double from = flops ? left : std::max(left, floor / rate),
               to = flops ? right : std::min(right, highest / rate);
  if (rate <= 0 || from >= to) return "";
  const auto at = [&](double intensity) { return plot.y(flops ? rate : rate * intensity); };
  const char* colour = colour_of(text(roof, "name"));
  const double label = flops ? right : from;
  return svg_line(plot.x(from), at(from), plot.x(to), at(to),
                  concat("stroke=\"", colour, "\" stroke-width=\"2\"")) +
         svg_text(plot.x(label) + (flops ? -6 : 10), at(label) - 6,
                  concat("font-size=\"11\" fill=\"", colour, flops ? "\" text-anchor=\"end\"" : "\""),
                  concat(text(roof, "name"), ", ", rate_text(rate, flops ? "FLOP/s" : "B/s")));
}

std::string roofs(const Plot& plot, const Json& report) {
  double highest = 0;
  for (const Json& roof : member(report, "roofs").as_array())
    if (text(roof, "unit") == "flops") highest = std::max(highest, number(roof, "rate"));
  std::string svg;
  for (const Json& roof : member(report, "roofs").as_array()) svg += roof_line(plot, roof, highest);
  return svg;
}

std::string mark(double x, double y, const Point& point) {
  return point.path ? svg_diamond(x, y, 6, point.colour) : svg_circle(x, y, 5, point.colour);
}

// Points carry numbers; the key beside the plot says what they are.
std::string marks(const Plot& plot, const std::vector<Point>& points) {
  const double key = kLeft + kPlotWidth + 24;
  std::string svg;
  double y = kTop + 4;
  int count = 0;
  for (const Point& point : points) {
    const std::string name = std::to_string(++count);
    const double at_x = plot.x(point.intensity), at_y = plot.y(point.rate);
    svg += mark(at_x, at_y, point) + svg_text(at_x + 7, at_y - 5, "font-size=\"10\"", name);
    svg += mark(key, y, point) + svg_text(key + 26, y + 4, "font-size=\"11\" text-anchor=\"end\"", name) +
           svg_text(key + 34, y + 4, "font-size=\"11\"", point.label);
    y += kLine;
  }
  return svg;
}

}  // namespace roofline

void write(const std::filesystem::path& path, const std::string& text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

}  // namespace

std::string bar_chart(const Json& report) {
  const std::vector<const Json*> paths = judged(report, "path"), kernels = judged(report, "kernel");
  const auto lines = static_cast<double>(std::max(paths.size(), kernels.size()));
  const double left = paths.empty() ? 0 : bars::kPanel + bars::kGap,
               width = 2 * bars::kMargin + left + bars::kPanel,
               height = bars::kTop + bars::kLine * lines + bars::kMargin;
  return svg_picture(
      width, height,
      svg_text(bars::kMargin, 30, "font-size=\"18\" font-weight=\"bold\"",
               "Share of the limit: the least time the work could take, over the time it takes") +
          bars::legend() +
          svg_text(width - bars::kMargin, 56, "font-size=\"12\" text-anchor=\"end\" fill=\"#555\"",
                   caption_of(report)) +
          bars::panel(bars::kMargin, "Paths: share, time a token; how many times as long PyTorch takes",
                      paths, bars::path_remark) +
          bars::panel(bars::kMargin + left, "Kernels: share, time, rate", kernels, bars::kernel_remark));
}

std::string headline_chart(const Json& report) {
  const std::vector<const Json*> paths = headlines(report);
  const double width = 2 * bars::kMargin + bars::kPanel,
               height = bars::kTop + bars::kLine * static_cast<double>(paths.size()) + 2 * bars::kMargin;
  return svg_picture(
      width, height,
      svg_text(bars::kMargin, 30, "font-size=\"18\" font-weight=\"bold\"",
               "Share of the limit: the least time the work could take, over the time it takes") +
          bars::legend() +
          bars::panel(bars::kMargin, "Share, time a token; how many times as long PyTorch takes", paths,
                      bars::path_remark) +
          svg_text(width - bars::kMargin, height - 14, "font-size=\"12\" text-anchor=\"end\" fill=\"#555\"",
                   caption_of(report)));
}

std::string roofline_chart(const Json& report) {
  const std::vector<roofline::Point> points = roofline::points_of(report);
  const roofline::Plot plot = roofline::plot_of(points, report);
  const double width = roofline::kLeft + roofline::kPlotWidth + roofline::kKey,
               height = roofline::kTop + std::max(roofline::kPlotHeight + roofline::kBottom,
                                                  roofline::kLine * static_cast<double>(points.size() + 1));
  return svg_picture(width, height,
                     svg_text(24, 28, "font-size=\"18\" font-weight=\"bold\"",
                              "Roofline: circles are kernels, diamonds whole paths; each with its share of "
                              "its limit") +
                         svg_text(24, 48, "font-size=\"12\" fill=\"#555\"", caption_of(report)) +
                         roofline::grid(plot) + roofline::roofs(plot, report) +
                         roofline::marks(plot, points));
}

void write_charts(const Json& report, const std::filesystem::path& to) {
  const bool named = to.extension() == ".svg";
  const std::filesystem::path directory = named ? to.parent_path() : to;
  if (!directory.empty()) std::filesystem::create_directories(directory);
  write(named ? to : to / "bars.svg", bar_chart(report));
  const auto beside = [&](const std::string& name) {
    return named ? directory / concat(to.stem().string(), "-", name) : to / name;
  };
  write(beside("headline.svg"), headline_chart(report));
  write(beside("roofline.svg"), roofline_chart(report));
}

}  // namespace bdh::bench
