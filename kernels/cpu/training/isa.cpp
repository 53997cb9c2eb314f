// Which kernels of training go with a table of kernels.
#include <algorithm>
#include <iterator>
#include <string_view>

#include "kernels/cpu/training/kernels.h"

namespace bdh::cpu {

extern const TrainingKernels training_kernels_baseline, training_kernels_avx2, training_kernels_avx512,
    training_kernels_neon;

const TrainingKernels& training_kernels_of(const Kernels& kernels) {
#if defined(__x86_64__)
  static constexpr const TrainingKernels* kTables[] = {&training_kernels_baseline, &training_kernels_avx2,
                                                       &training_kernels_avx512};
  const std::string_view name = kernels.name;  // avx512vnni, too, trains with avx512's
  return **std::find_if(std::begin(kTables), std::end(kTables),
                        [&](const TrainingKernels* table) { return name.starts_with(table->name); });
#else
  (void)kernels;
  return training_kernels_neon;
#endif
}

}  // namespace bdh::cpu
