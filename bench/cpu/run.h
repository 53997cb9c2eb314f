// A run of the benchmarks on this processor.
#pragma once

#include "bench/options.h"
#include "bench/report.h"

namespace bdh::bench {

Report run_on_cpu(const Options& options);

}  // namespace bdh::bench
