// Every CPU kernel, over the shapes the model gives it, in cache and from memory.
#pragma once

#include <vector>

#include "bench/case.h"
#include "bench/machine.h"

namespace bdh::bench {

/// quick: the best instruction set alone.
std::vector<Case> kernel_cases(const Machine& machine, bool quick);

}  // namespace bdh::bench
