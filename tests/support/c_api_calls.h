// Sequences of calls on the C API, as bytes choose them: for the fuzzer and a short round of it in the tests.
#pragma once

#include <cstdint>
#include <span>

#include "bdh/bdh_c.h"

namespace bdh::test {

/// A very small model, in memory. Throws std::logic_error where that fails.
bdh_model* small_model_in_c();

/// Makes the calls that `bytes` stand for, with right and wrong arguments, on models and sessions of its own
/// and on `shared`, which other threads may use. Throws std::logic_error where a promise of bdh_c.h is
/// broken.
void call_c_api(std::span<const uint8_t> bytes, const bdh_model* shared);

}  // namespace bdh::test
