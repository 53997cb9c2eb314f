// CRC-32C against the answers of RFC 3720, B.4.
#include "bdh/base/crc32c.h"

#include <doctest/doctest.h>

#include <string>

TEST_CASE("crc32c: known answers") {
  CHECK(bdh::crc32c("") == 0);
  CHECK(bdh::crc32c("123456789") == 0xe3069283);
  CHECK(bdh::crc32c(std::string(32, '\0')) == 0x8a9136aa);
  CHECK(bdh::crc32c(std::string(32, '\xff')) == 0x62a8ab43);
  std::string rising;
  for (char c = 0; c < 32; ++c) rising += c;
  CHECK(bdh::crc32c(rising) == 0x46dd794e);
}
