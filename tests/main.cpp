// Runs every test of the tree, with a cache directory of their own.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cstdlib>

#include "tests/support/temporary.h"

namespace {

const bdh::test::TemporaryDirectory cache;
[[maybe_unused]] const int is_set = setenv("XDG_CACHE_HOME", cache.path().c_str(), 1);

}  // namespace
