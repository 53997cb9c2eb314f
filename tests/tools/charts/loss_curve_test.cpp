// The loss curve: what is in the picture, whatever the history.
#include "tools/charts/loss_curve.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
#include <string_view>

#include "tests/support/temporary.h"

using bdh::LossHistory;
using bdh::tools::loss_curve_svg;

namespace {

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

size_t count(const std::string& text, std::string_view part) {
  size_t found = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

/// The points of line number `index`.
std::string points_of(const std::string& svg, size_t index) {
  size_t at = 0;
  for (size_t i = 0; i <= index; ++i) at = svg.find("<polyline points=\"", at + 1);
  REQUIRE(at != svg.npos);
  const size_t begin = at + std::string_view("<polyline points=\"").size();
  return svg.substr(begin, svg.find('"', begin) - begin);
}

LossHistory history_of(int64_t steps) {
  LossHistory history;
  for (int64_t step = 1; step <= steps; ++step) {
    const double x = static_cast<double>(step), falling = 1.5 + 4 * std::exp(-x / 300);
    history.train.push_back({step, falling + 0.15 * std::sin(x * 1.7) + 0.1 * std::sin(x * x)});
    if (step % 250 == 0) history.validation.push_back({step, falling + 0.05});
  }
  return history;
}

}  // namespace

TEST_CASE("loss curve: a thinned line, its mean, and validations") {
  const std::string svg = loss_curve_svg(history_of(3000), "Loss of <a> & b", "small");
  for (const char* part : {"Loss of &lt;a&gt; &amp; b", ">small<", ">step<", ">nats per token<",
                           ">validation<", ">loss of a step<", ">mean of 75 steps<", ">500<", ">3000<"})
    CHECK_MESSAGE(has(svg, part), std::string(part));
  CHECK(count(svg, "<polyline") == 3);
  CHECK(count(points_of(svg, 0), ",") == 400);
  CHECK(count(points_of(svg, 1), ",") == 400);
  CHECK(count(points_of(svg, 2), ",") == 12);
  CHECK(count(svg, "<circle") == 12);
}

TEST_CASE("loss curve: short and odd histories") {
  CHECK(loss_curve_svg({}, "t", "s").ends_with("</svg>\n"));
  LossHistory history;
  history.train = {{1, 2.0}};
  CHECK(count(loss_curve_svg(history, "t", "s"), "<polyline") == 2);
  history.train = {{1, 2.0}, {2, 1e30}, {3, 1.0}};
  history.validation = {{3, 1.0}};
  CHECK_FALSE(has(loss_curve_svg(history, "t", "s"), "nan"));
  history.train.clear();
  CHECK(count(loss_curve_svg(history, "t", "s"), "<circle") == 1);
}

TEST_CASE("loss curve: a picture to look at") {
  const char* out = std::getenv("BDH_PICTURE");
  if (out != nullptr)
    bdh::test::write_file(
        out, loss_curve_svg(history_of(3000), "Loss in training", "shakespeare-small, blocks of 256 tokens"));
}
