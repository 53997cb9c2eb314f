// Tests run on the CPU's backend.
#include "kernels/cpu/backend.h"
#include "tests/support/backends.h"

namespace bdh::test {

const bool kOnCuda = false;
#ifdef BDH_SANITIZED
const bool kSlow = true;
#else
const bool kSlow = false;
#endif
const float kHalfTolerance = 2e-3f;

std::vector<std::string> variants() { return cpu::available_isas(); }
std::vector<int> thread_counts() { return {2, 3, 4, 8}; }
std::shared_ptr<Backend> backend(int threads, const std::string& variant) {
  return cpu::make_backend({threads, variant});
}

}  // namespace bdh::test
