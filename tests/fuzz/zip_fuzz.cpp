// Fuzzes PyTorch archives as a whole: directory, entries, pickle, tensors; every element of what is found is
// read.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/formats/torch/torch_reader.h"
#include "bdh/formats/torch/zip_reader.h"

namespace {

// Views into the mapping, and memory of their own.
void read_elements(const bdh::TorchFile& file) {
  for (const auto& [name, tensor] : file.tensors) {
    std::vector<std::byte> packed(tensor.bytes());
    bdh::copy_row_major(tensor, 0, tensor.numel(), packed.data());
  }
}

void unpack_all(std::span<const std::byte> bytes) {
  bdh::ZipReader zip(bytes, "fuzz");
  for (const bdh::ZipEntry& entry : zip.entries()) zip.unpack(entry);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    read_elements(bdh::read_torch_file(bytes, nullptr, "fuzz"));
  } catch (const bdh::Error&) {
  }
  try {
    unpack_all(bytes);
  } catch (const bdh::Error&) {
  }
  return 0;
}
