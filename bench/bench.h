// One run of the benchmarks, on whatever device was asked for.
#pragma once

#include "bench/options.h"
#include "bench/report.h"

namespace bdh::bench {

/// Throws Error(unsupported) where this build has no benchmarks for that device, saying how to build them,
/// and as make_backend and check(options).
Report run(const Options& options);

}  // namespace bdh::bench
