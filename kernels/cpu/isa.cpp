// Chooses a kernel table at run time.
#include "kernels/cpu/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__linux__) && defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include <cstdlib>

#include "bdh/base/error.h"
#include "kernels/cpu/backend.h"

namespace bdh::cpu {

extern const Kernels kernels_baseline, kernels_avx2, kernels_avx512, kernels_neon;
extern const decltype(Kernels::dot_rows) dot_rows_avx512vnni, dot_rows_neondotprod;

namespace {

Kernels with_dot_rows(const Kernels& base, const char* name, decltype(Kernels::dot_rows) dot_rows) {
  Kernels kernels = base;
  kernels.name = name;
  kernels.dot_rows = dot_rows;
  return kernels;
}

#if defined(__x86_64__)
// __builtin_cpu_supports knows no "f16c" before clang 15.
bool has_f16c() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c(); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

const Kernels& kernels_avx512vnni() {
  static const Kernels table = with_dot_rows(kernels_avx512, "avx512vnni", dot_rows_avx512vnni);
  return table;
}
#else
#if defined(__linux__) && defined(__aarch64__)
bool has_dotprod() { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#else
bool has_dotprod() { return false; }
#endif

const Kernels& kernels_neondotprod() {
  static const Kernels table = with_dot_rows(kernels_neon, "neondotprod", dot_rows_neondotprod);
  return table;
}
#endif

// Best first.
std::vector<const Kernels*> runnable() {
  std::vector<const Kernels*> tables;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (has_avx512() && __builtin_cpu_supports("avx512vnni")) tables.push_back(&kernels_avx512vnni());
  if (has_avx512()) tables.push_back(&kernels_avx512);
  if (has_avx2()) tables.push_back(&kernels_avx2);
  tables.push_back(&kernels_baseline);
#else
  if (has_dotprod()) tables.push_back(&kernels_neondotprod());
  tables.push_back(&kernels_neon);
#endif
  return tables;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Kernels* table : runnable()) names.emplace_back(table->name);
  return names;
}

const Kernels& kernels_for(const std::string& isa) {
  const char* variable = std::getenv("BDH_ISA");
  const std::string wanted = !isa.empty() ? isa : variable ? variable : "";
  const std::vector<const Kernels*> tables = runnable();
  if (wanted.empty()) return *tables.front();
  std::string names;
  for (const Kernels* table : tables) {
    if (wanted == table->name) return *table;
    names += concat(names.empty() ? "" : ", ", table->name);
  }
  fail(ErrorKind::invalid_argument, "instruction set '", wanted,
       "' (BDH_ISA) is not one this processor and build can run: ", names);
}

}  // namespace bdh::cpu
