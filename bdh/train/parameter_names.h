// Names of a model's trained parameters, and how options mean them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/model/config.h"

namespace bdh {

/// In the state_dict's order, without attn.freqs.
std::vector<std::string> parameter_names(const Config& config);

/// Which of the names `given` stands for: itself, and what continues it after a point, as "encoder" stands
/// for "encoder.0" and "embed" for "embed.weight". Throws Error(invalid_argument) naming `option` where there
/// is none.
std::vector<size_t> find_parameters(const std::vector<std::string>& names, std::string_view given,
                                    std::string_view option);

}  // namespace bdh
