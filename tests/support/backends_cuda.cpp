// Tests run on the CUDA backend, on a GPU or emulated.
#include "kernels/cuda/backend.h"

#include "tests/support/backends.h"

namespace bdh::test {

const bool kOnCuda = true;
#ifdef BDH_CUDA_EMULATED
const bool kEmulated = true;
#else
const bool kEmulated = false;
#endif
const float kHalfTolerance = 3e-2f;  // activations of a chunk may be rounded to the weights' dtype

std::vector<std::string> variants() { return {""}; }
std::vector<int> thread_counts() { return {2}; }  // once more is all there is
std::shared_ptr<Backend> backend(int, const std::string&) { return cuda::make_backend(); }

}  // namespace bdh::test
