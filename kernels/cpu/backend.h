// The CPU backend.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"

namespace bdh::cpu {

struct Options {
  int threads = 0;  // 0: the cores this process may use
  std::string isa;  // "": the environment variable BDH_ISA, or else the best this processor has
};

/// Throws Error(invalid_argument) for an unknown or unavailable instruction set, naming those there are.
std::shared_ptr<Backend> make_backend(const Options& options = {});

/// The instruction sets this build has and this processor runs, best first: "avx512vnni", "avx512", "avx2",
/// "baseline", "neondotprod", "neon".
std::vector<std::string> available_isas();

}  // namespace bdh::cpu
