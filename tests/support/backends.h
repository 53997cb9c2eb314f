// The backend that tests run on: the CPU's in bdh_tests; the CUDA backend, emulated in bdh_cuda_tests and on
// a GPU in bdh_gpu_tests, where BDH_TEST_CUDA is defined.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/backend.h"
#ifdef BDH_TEST_CUDA
#include "kernels/cuda/backend.h"
#endif

namespace bdh::test {

#ifdef BDH_TEST_CUDA
inline std::vector<std::string> variants() { return {""}; }
inline std::vector<int> thread_counts() { return {2}; }  // once more is all there is
inline std::shared_ptr<Backend> backend(int = 1, const std::string& = "") { return cuda::make_backend(); }
constexpr float kHalfTolerance = 3e-2f;  // activations of a chunk may be rounded to the weights' dtype
#else
/// What the backend can be asked to run as: the instruction sets of a CPU.
inline std::vector<std::string> variants() { return cpu::available_isas(); }
/// Numbers of threads besides 1 that must give the same bits.
inline std::vector<int> thread_counts() { return {2, 3, 4, 8}; }
inline std::shared_ptr<Backend> backend(int threads = 1, const std::string& variant = "") {
  return cpu::make_backend({threads, variant});
}
/// Of the largest logit, against sums in higher precision of the same 16-bit weights.
constexpr float kHalfTolerance = 2e-3f;
#endif

#ifdef BDH_CUDA_EMULATED
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

/// `count` on hardware, `few` on the emulator, which takes a thousand times as long.
template <class Number>
constexpr Number unless_emulated(Number count, Number few) {
  return kEmulated ? few : count;
}

}  // namespace bdh::test
