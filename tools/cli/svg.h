// The few shapes that charts are made of, as SVG text.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bdh::tools {

std::string svg_text(double x, double y, std::string_view style, std::string_view text);
std::string svg_rectangle(double x, double y, double width, double height, std::string_view colour);
std::string svg_line(double x1, double y1, double x2, double y2, std::string_view style);
/// One line through all points, (x, y) each.
std::string svg_polyline(const std::vector<std::pair<double, double>>& points, std::string_view style);
std::string svg_circle(double x, double y, double radius, std::string_view colour);
std::string svg_diamond(double x, double y, double radius, std::string_view colour);
/// The picture: white, with the shapes inside.
std::string svg_picture(double width, double height, const std::string& shapes);

}  // namespace bdh::tools
