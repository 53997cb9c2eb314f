// Writing SVG elements.
#include "tools/cli/svg.h"

#include <cstdio>

#include "bdh/base/error.h"

namespace bdh::tools {

namespace {

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

}  // namespace

std::string svg_text(double x, double y, std::string_view style, std::string_view text) {
  return concat("<text x=\"", number(x), "\" y=\"", number(y), "\" ", style, ">", escaped(text), "</text>\n");
}

std::string svg_rectangle(double x, double y, double width, double height, std::string_view colour) {
  return concat("<rect x=\"", number(x), "\" y=\"", number(y), "\" width=\"", number(width), "\" height=\"",
                number(height), "\" fill=\"", colour, "\"/>\n");
}

std::string svg_line(double x1, double y1, double x2, double y2, std::string_view style) {
  return concat("<line x1=\"", number(x1), "\" y1=\"", number(y1), "\" x2=\"", number(x2), "\" y2=\"",
                number(y2), "\" ", style, "/>\n");
}

std::string svg_polyline(const std::vector<std::pair<double, double>>& points, std::string_view style) {
  std::string list;
  for (const auto& [x, y] : points) list.append(list.empty() ? "" : " ").append(number(x) + "," + number(y));
  return concat("<polyline points=\"", list, "\" fill=\"none\" ", style, "/>\n");
}

std::string svg_circle(double x, double y, double radius, std::string_view colour) {
  return concat("<circle cx=\"", number(x), "\" cy=\"", number(y), "\" r=\"", number(radius), "\" fill=\"",
                colour, "\"/>\n");
}

std::string svg_diamond(double x, double y, double radius, std::string_view colour) {
  return concat("<path d=\"M", number(x - radius), " ", number(y), " L", number(x), " ", number(y - radius),
                " L", number(x + radius), " ", number(y), " L", number(x), " ", number(y + radius),
                " Z\" fill=\"", colour, "\"/>\n");
}

std::string svg_picture(double width, double height, const std::string& shapes) {
  return concat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", number(width), "\" height=\"",
                number(height), "\" font-family=\"Helvetica, Arial, sans-serif\">\n",
                svg_rectangle(0, 0, width, height, "#fff"), shapes, "</svg>\n");
}

}  // namespace bdh::tools
