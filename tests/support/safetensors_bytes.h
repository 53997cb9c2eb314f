// Safetensors files put together by hand, right or wrong.
#pragma once

#include <string>
#include <string_view>

namespace bdh::test {

/// The header's length, the header as it is, the data.
std::string safetensors_bytes(std::string_view header, std::string_view data);

/// `length` stands where the header's length belongs.
std::string safetensors_bytes(unsigned long long length, std::string_view header, std::string_view data);

/// "name":{"dtype":"dtype","shape":shape,"data_offsets":offsets}
std::string tensor_entry(std::string_view name, std::string_view dtype, std::string_view shape,
                         std::string_view offsets);

}  // namespace bdh::test
