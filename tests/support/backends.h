// The backend that tests run on: the CPU's in bdh_tests, where backends_cpu.cpp is linked; CUDA's, which
// backends_cuda.cpp makes, emulated in bdh_cuda_tests and on a GPU in bdh_gpu_tests.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace bdh::test {

extern const bool kOnCuda;
extern const bool kSlow;  // on the emulator, which takes a thousand times as long, or under sanitizers
/// Of the largest logit, against sums in higher precision of the same 16-bit weights.
extern const float kHalfTolerance;

/// What the backend can be asked to run as: the instruction sets of a CPU.
std::vector<std::string> variants();
/// Numbers of threads besides 1 that must give the same bits.
std::vector<int> thread_counts();
std::shared_ptr<Backend> backend(int threads = 1, const std::string& variant = "");

/// `count`, or `few` where this is slow.
template <class Number>
Number unless_slow(Number count, Number few) {
  return kSlow ? few : count;
}

}  // namespace bdh::test
