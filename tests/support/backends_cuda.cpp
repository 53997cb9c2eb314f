// Tests run on the CUDA backend, on a GPU or emulated.
#include "kernels/cuda/backend.h"

#include "tests/support/backends.h"
#ifdef BDH_CUDA_EMULATED
#include "tests/support/cuda/emulator.h"
#endif

namespace bdh::test {

const bool kOnCuda = true;
#ifdef BDH_CUDA_EMULATED
const bool kSlow = true;
#else
const bool kSlow = false;
#endif
const float kHalfTolerance = 3e-2f;  // activations of a chunk may be rounded to the weights' dtype

std::vector<std::string> variants() { return {""}; }

// Not threads here but orders of blocks and threads, as the emulator shuffles them; a GPU has its own each
// time.
std::vector<int> thread_counts() { return {2}; }

std::shared_ptr<Backend> backend(int threads, const std::string&) {
#ifdef BDH_CUDA_EMULATED
  emulation::set_thread_order(threads == 1 ? 0 : static_cast<uint64_t>(threads));
#else
  (void)threads;
#endif
  return cuda::make_backend();
}

}  // namespace bdh::test
