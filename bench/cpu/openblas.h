// OpenBLAS as the peer it should be.
#pragma once

#include <string>

namespace bdh::bench {

/// "OpenBLAS 0.3.21 ... SkylakeX"
std::string openblas_description();

/// OpenBLAS takes its oldest kernels on a processor that is newer than itself, which would make sgemm a limit
/// that is none. It chooses before main, so where it has, this starts the program again with
/// OPENBLAS_CORETYPE set to the newest ones that the processor runs; where that is set already, it stands.
void use_best_openblas();

}  // namespace bdh::bench
