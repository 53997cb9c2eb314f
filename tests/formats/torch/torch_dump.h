// What a PyTorch file holds, as JSON that tests/parity/torch_parity.py makes of the same file in Python.
#pragma once

#include <string>

#include "bdh/formats/torch/torch_file.h"

namespace bdh::test {

/// The elements in row-major order, two hexadecimal digits a byte.
inline std::string hexadecimal(const Tensor& tensor) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string packed(tensor.bytes(), '\0');
  copy_row_major(tensor, 0, tensor.numel(), reinterpret_cast<std::byte*>(packed.data()));
  std::string text;
  for (const char c : packed) {
    text += kDigits[static_cast<unsigned char>(c) >> 4];
    text += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

/// {"tensors": {name: {"dtype", "shape", "bytes"}}, "config", "unreadable"}, names sorted; "unreadable" where
/// there are such entries.
inline Json dump_of(const TorchFile& file) {
  Json tensors = Json::Object{};
  for (const auto& [name, tensor] : file.tensors) {
    Json shape = Json::Array{};
    for (const int64_t dimension : tensor.shape) shape.push(dimension);
    tensors.set(
        name,
        Json::Object{{"dtype", name_of(tensor.dtype)}, {"shape", shape}, {"bytes", hexadecimal(tensor)}});
  }
  const Json* config = file.values.find("config");
  Json dump = Json::Object{{"tensors", tensors}, {"config", config ? *config : Json()}};
  for (const auto& [name, error] : file.unreadable) {
    Json names = dump.find("unreadable") ? *dump.find("unreadable") : Json(Json::Array{});
    dump.set("unreadable", names.push(name));
  }
  return dump;
}

}  // namespace bdh::test
