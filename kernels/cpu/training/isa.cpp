// Which kernels of training go with a table of kernels.
#include <string_view>

#include "kernels/cpu/training/kernels.h"

namespace bdh::cpu {

extern const TrainingKernels training_kernels_baseline, training_kernels_avx2, training_kernels_avx512,
    training_kernels_neon;

const TrainingKernels& training_kernels_of(const Kernels& kernels) {
#if defined(__x86_64__)
  const std::string_view name = kernels.name;
  if (name == training_kernels_baseline.name) return training_kernels_baseline;
  if (name == training_kernels_avx2.name) return training_kernels_avx2;
  return training_kernels_avx512;  // avx512vnni's as well
#else
  (void)kernels;
  return training_kernels_neon;
#endif
}

}  // namespace bdh::cpu
