// The loss of a training run by step, as an SVG picture.
#pragma once

#include <string>

#include "bdh/train/metrics_file.h"

namespace bdh::tools {

/// The loss of single steps, thinned to a few hundred points, their running mean, and each validation.
std::string loss_curve_svg(const LossHistory& history, const std::string& title, const std::string& subtitle);

}  // namespace bdh::tools
