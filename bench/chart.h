// The chart of a report: every path's and kernel's share of its limit. Knows how to draw; measures and judges
// nothing.
#pragma once

#include <string>

#include "bench/report.h"

namespace bdh::bench {

/// SVG text.
std::string chart_of(const Report& report);

}  // namespace bdh::bench
