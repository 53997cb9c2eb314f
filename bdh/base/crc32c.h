// CRC-32C (Castagnoli) of bytes.
#pragma once

#include <cstdint>
#include <string_view>

namespace bdh {

uint32_t crc32c(std::string_view bytes);

}  // namespace bdh
