// Safetensors files put together by hand, right or wrong.
#include "tests/support/safetensors_bytes.h"

namespace bdh::test {

std::string safetensors_bytes(std::string_view header, std::string_view data) {
  return safetensors_bytes(header.size(), header, data);
}

std::string safetensors_bytes(unsigned long long length, std::string_view header, std::string_view data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xff);
  return bytes.append(header).append(data);
}

std::string tensor_entry(std::string_view name, std::string_view dtype, std::string_view shape,
                         std::string_view offsets) {
  std::string entry = "\"";
  entry.append(name).append("\":{\"dtype\":\"").append(dtype).append("\",\"shape\":").append(shape);
  return entry.append(",\"data_offsets\":").append(offsets).append("}");
}

}  // namespace bdh::test
