// Which kernel tables this build holds and which of them this processor can run.
#pragma once

#include <string>
#include <vector>

#include "kernels/cpu/kernels.h"

namespace bdh::cpu {

/// The table with that name; "": the one the environment variable BDH_ISA names, or else the best.
/// Throws Error(invalid_argument) naming those there are.
const Kernels& kernels_for(const std::string& isa);

}  // namespace bdh::cpu
