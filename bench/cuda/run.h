// A run of the benchmarks on a GPU.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "bench/cuda/limits.h"
#include "bench/options.h"
#include "bench/report.h"
#include "kernels/backend.h"

namespace bdh::bench {

/// How much is read; a test has less.
struct GpuRunSizes {
  LimitSizes limits{};
  std::vector<int64_t> positions{512, 4096, 100000};  // of decoding
  std::vector<int64_t> batches{8, 64};                // at the first position
  std::vector<int64_t> crossover{2, 4, 8, 16};        // read sparsely and densely, to find which suits
  std::vector<int64_t> prompts{512, 2048, 8192, 131072};
  std::vector<int64_t> chunks{512, 256, 128};                        // the first for every prompt
  std::vector<std::array<int64_t, 2>> training{{8, 256}, {8, 512}};  // sequences, tokens
  int chunk_tokens = 512;                                            // of a kernel's chunk
  int chunk_segments = 8;                                            // of the larger one
  int samples = 0;  // of everything; 0: as many as are worth it
};

/// backend: one of a GPU.
Report run_on_cuda(const Options& options, const std::shared_ptr<Backend>& backend,
                   const GpuRunSizes& sizes = {});

}  // namespace bdh::bench
