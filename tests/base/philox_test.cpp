// Philox4x32-10 against the answers that its authors publish.
#include "bdh/base/philox.h"

#include <doctest/doctest.h>

using Words = std::array<uint32_t, 4>;

TEST_CASE("philox: the known answers of Random123") {
  CHECK(bdh::philox({0, 0, 0, 0}, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(bdh::philox({~0u, ~0u, ~0u, ~0u}, ~uint64_t{0}) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(bdh::philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}
