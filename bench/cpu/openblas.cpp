// Which kernels OpenBLAS runs.
#include "bench/cpu/openblas.h"

#include <cblas.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "kernels/cpu/backend.h"

namespace bdh::bench {

namespace {

constexpr const char* kChoice = "OPENBLAS_CORETYPE";

const char* best_core() {
  const std::string isa = cpu::available_isas().front();
  if (isa.rfind("avx512", 0) == 0) return "SkylakeX";
  return isa == "avx2" ? "Haswell" : nullptr;
}

// The arguments that this program was started with.
std::vector<std::string> arguments() {
  std::ifstream line("/proc/self/cmdline");
  std::vector<std::string> all;
  for (std::string one; std::getline(line, one, '\0');) all.push_back(one);
  return all;
}

}  // namespace

std::string openblas_description() {
  return concat(openblas_get_config(), ", running as ", openblas_get_corename());
}

void use_best_openblas() {
  const char* core = best_core();
  if (!core || std::getenv(kChoice) || openblas_get_corename() != std::string("Prescott")) return;
  std::vector<std::string> given = arguments();
  std::vector<char*> pointers;
  for (std::string& argument : given) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  setenv(kChoice, core, 1);
  execv("/proc/self/exe", pointers.data());
}

}  // namespace bdh::bench
