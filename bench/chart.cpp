// Draws two panels of horizontal bars, paths and kernels, from 0 to 100 % of the limit.
#include "bench/chart.h"

#include <algorithm>
#include <cstdio>
#include <set>
#include <string_view>
#include <vector>

#include "bdh/base/error.h"

namespace bdh::bench {

namespace {

// Pixels.
constexpr double kTop = 104, kLine = 19, kBarHeight = 12, kLabel = 372, kPlot = 250, kRemark = 248,
                 kMargin = 24, kGap = 28;
constexpr double kPanel = kLabel + kPlot + kRemark;
constexpr double kMost = 1.1;  // the share at the right end
// Told apart by colour-blind readers and in grey.
constexpr const char* kMemoryColour = "#0072b2";
constexpr const char* kCacheColour = "#56b4e9";
constexpr const char* kSgemmColour = "#e69f00";

struct Bar {
  std::string label, remark;
  double share;
  const char* colour;
};

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text)
    out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
  return out;
}

std::string number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

std::string text_at(double x, double y, std::string_view style, std::string_view text) {
  return concat("<text x=\"", number(x), "\" y=\"", number(y), "\" ", style, ">", escaped(text), "</text>\n");
}

std::string rectangle(double x, double y, double width, double height, std::string_view colour) {
  return concat("<rect x=\"", number(x), "\" y=\"", number(y), "\" width=\"", number(width), "\" height=\"",
                number(height), "\" fill=\"", colour, "\"/>\n");
}

const char* colour_of(const Bound& bound) {
  if (bound.by == kSgemm) return kSgemmColour;
  return bound.by == concat("read ", name_of(Level::memory)) ? kMemoryColour : kCacheColour;
}

std::string threads_of(const Case& c) { return concat(c.threads, c.threads == 1 ? " thread" : " threads"); }

Bar path_bar(const Row& row) {
  const Result& r = *row.result;
  std::string remark = concat(format_share(row.share), ", ", format_seconds(r.median() / r.work.tokens));
  for (const auto& [name, ratio] : row.peers)
    remark += concat(ratio == row.peers.front().second ? "; PyTorch x " : ", ", number(ratio));
  return {concat(r.of.name, ", ", r.of.shape, ", ", r.of.dtype, ", ", threads_of(r.of)), remark, row.share,
          colour_of(row.bound)};
}

Bar kernel_bar(const Row& row) {
  const Case& c = row.result->of;
  return {concat(c.name, ", ", c.shape, ", ", c.dtype, ", ", threads_of(c)),
          concat(format_share(row.share), ", ", format_rate(row)), row.share, colour_of(row.bound)};
}

// Kernels of the first, the best, instruction set.
std::vector<Bar> bars_of(const Report& report, Kind kind) {
  std::vector<Bar> bars;
  std::string isa;
  for (const Row& row : report.rows) {
    const Case& c = row.result->of;
    if (c.kind != kind || row.share <= 0) continue;
    if (isa.empty()) isa = c.isa;
    if (c.isa == isa) bars.push_back(kind == Kind::path ? path_bar(row) : kernel_bar(row));
  }
  return bars;
}

std::string panel(double left, const std::string& title, const std::vector<Bar>& bars) {
  if (bars.empty()) return "";
  const double plot = left + kLabel, bottom = kTop + kLine * static_cast<double>(bars.size());
  std::string svg = text_at(plot, kTop - 26, "font-size=\"14\" font-weight=\"bold\"", title);
  for (int percent = 0; percent <= 100; percent += 20) {
    const double x = plot + kPlot * percent / 100 / kMost;
    svg += concat("<line x1=\"", number(x), "\" y1=\"", number(kTop - 4), "\" x2=\"", number(x), "\" y2=\"",
                  number(bottom), "\" stroke=\"", percent == 100 ? "#444" : "#ddd", "\"/>\n");
    svg += text_at(x, kTop - 8, "font-size=\"10\" text-anchor=\"middle\" fill=\"#555\"",
                   concat(percent, percent == 100 ? " %" : ""));
  }
  for (size_t i = 0; i < bars.size(); ++i) {
    const double y = kTop + kLine * static_cast<double>(i) + (kLine - kBarHeight) / 2;
    const double width = kPlot * std::min(bars[i].share, kMost) / kMost;
    svg += text_at(plot - 8, y + 10, "font-size=\"11\" text-anchor=\"end\"", bars[i].label);
    svg += rectangle(plot, y, width, kBarHeight, bars[i].colour);
    svg += text_at(plot + kPlot + 10, y + 10, "font-size=\"11\" fill=\"#333\"", bars[i].remark);
  }
  return svg;
}

std::string legend(double left) {
  std::string svg;
  const std::pair<const char*, const char*> entries[] = {{kMemoryColour, "limit: reading from memory"},
                                                         {kCacheColour, "limit: reading from cache"},
                                                         {kSgemmColour, "limit: OpenBLAS sgemm"}};
  for (const auto& [colour, text] : entries) {
    svg += rectangle(left, 46, 12, 12, colour);
    svg += text_at(left + 18, 56, "font-size=\"12\"", text);
    left += 210;
  }
  return svg;
}

}  // namespace

std::string chart_of(const Report& report) {
  const std::vector<Bar> paths = bars_of(report, Kind::path), kernels = bars_of(report, Kind::kernel);
  const auto lines = static_cast<double>(std::max(paths.size(), kernels.size()));
  const double width = 2 * kMargin + 2 * kPanel + kGap, height = kTop + kLine * lines + kMargin;
  std::string svg =
      concat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", number(width), "\" height=\"",
             number(height), "\" font-family=\"Helvetica, Arial, sans-serif\">\n");
  svg += rectangle(0, 0, width, height, "#fff");
  svg += text_at(kMargin, 30, "font-size=\"18\" font-weight=\"bold\"",
                 "Share of the limit: the least time the work could take, over the time it takes");
  svg += legend(kMargin);
  svg += text_at(width - kMargin, 30, "font-size=\"12\" text-anchor=\"end\" fill=\"#555\"",
                 concat(report.machine.processor, ", ", report.machine.cores, " cores, ", report.date, "; ",
                        report.peer));
  svg += panel(kMargin, "Paths: share, time a token; how many times as long PyTorch takes", paths);
  svg += panel(kMargin + kPanel + kGap, "Kernels: share, rate", kernels);
  return svg + "</svg>\n";
}

}  // namespace bdh::bench
