// Every CPU kernel, over the shapes the model gives it, in cache and from memory.
#pragma once

#include <vector>

#include "bench/cpu/machine.h"
#include "bench/cpu/runner.h"

namespace bdh::bench {

/// quick: the best instruction set alone.
std::vector<CpuCase> kernel_cases(const Machine& machine, bool quick);

}  // namespace bdh::bench
