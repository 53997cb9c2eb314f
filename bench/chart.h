// The pictures of a run, drawn from its JSON: bars of every path's and kernel's share of its limit, those of
// the few paths that matter most, and a roofline.
#pragma once

#include <filesystem>
#include <string>

#include "bdh/base/json.h"

namespace bdh::bench {

/// SVG text. Throws Error(bad_file) for JSON that json_of(Report) does not write.
std::string bar_chart(const Json& report);
/// The bars of at most eight paths: what someone who runs a model waits for. Each name, model and dtype once,
/// in the run's order, on all threads.
std::string headline_chart(const Json& report);
/// Flops a second over flops a byte, both logarithmic, below the machine's roofs. Kernels and paths that do
/// no flops are left out.
std::string roofline_chart(const Json& report);

/// Writes all: to DIRECTORY/bars.svg, headline.svg and roofline.svg, or, for a name that ends in .svg, the
/// bars there and the others beside it as NAME-headline.svg and NAME-roofline.svg. Makes the directory.
void write_charts(const Json& report, const std::filesystem::path& to);

}  // namespace bdh::bench
