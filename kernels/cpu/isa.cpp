// Chooses a kernel table at run time.
#include "kernels/cpu/isa.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <algorithm>
#include <cstdlib>

#include "bdh/base/error.h"
#include "kernels/cpu/backend.h"

namespace bdh::cpu {

extern const Kernels kernels_baseline, kernels_avx2, kernels_avx512, kernels_avx512vnni, kernels_neon;
extern const TrainingKernels training_kernels_baseline, training_kernels_avx2, training_kernels_avx512,
    training_kernels_avx512vnni, training_kernels_neon;

namespace {

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
#endif

struct Table {
  const Kernels* kernels;
  const TrainingKernels* training;
};

// Best first.
std::vector<Table> runnable() {
  std::vector<Table> tables;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (has_avx512() && __builtin_cpu_supports("avx512vnni"))
    tables.push_back({&kernels_avx512vnni, &training_kernels_avx512vnni});
  if (has_avx512()) tables.push_back({&kernels_avx512, &training_kernels_avx512});
  if (has_avx2()) tables.push_back({&kernels_avx2, &training_kernels_avx2});
  tables.push_back({&kernels_baseline, &training_kernels_baseline});
#else
  tables.push_back({&kernels_neon, &training_kernels_neon});
#endif
  return tables;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Table& table : runnable()) names.emplace_back(table.kernels->name);
  return names;
}

const Kernels& kernels_for(const std::string& isa) {
  const char* variable = std::getenv("BDH_ISA");
  const std::string wanted = !isa.empty() ? isa : variable ? variable : "";
  const std::vector<Table> tables = runnable();
  if (wanted.empty()) return *tables.front().kernels;
  std::string names;
  for (const Table& table : tables) {
    if (wanted == table.kernels->name) return *table.kernels;
    names += concat(names.empty() ? "" : ", ", table.kernels->name);
  }
  fail(ErrorKind::invalid_argument, "instruction set '", wanted,
       "' (BDH_ISA) is not one this processor and build can run: ", names);
}

const TrainingKernels& training_kernels_of(const Kernels& kernels) {
  const std::vector<Table> tables = runnable();
  const auto found = std::find_if(tables.begin(), tables.end(),
                                  [&](const Table& table) { return table.kernels == &kernels; });
  return *found->training;
}

}  // namespace bdh::cpu
