// Any bytes as a sequence of calls on the C API, right and wrong: every one gives a status, and what bdh_c.h
// promises holds.
#include "tests/support/c_api_calls.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bdh_model* const shared = bdh::test::small_model_in_c();
  bdh::test::call_c_api({data, size}, shared);
  return 0;
}
