// Fuzzes the pickles in PyTorch files, and what makes tensors and a configuration of them; all storages are
// the same few bytes.
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/formats/torch/state_dict.h"

namespace {

constexpr uint64_t kLargest = uint64_t{1} << 20;
constexpr std::array<std::byte, 256> kStorage{};

void read(std::span<const std::byte> bytes) {
  const bdh::Pickle pickle = bdh::read_pickle(bytes, "fuzz");
  const auto storages = [](std::string_view) { return bdh::TorchStorage{kStorage, nullptr, true}; };
  const bdh::TorchFile file = bdh::read_state_dict(pickle, storages, kLargest, "fuzz");
  for (const auto& [name, tensor] : file.tensors) {
    std::vector<std::byte> packed(tensor.bytes());
    bdh::copy_row_major(tensor, 0, tensor.numel(), packed.data());
  }
  (void)file.values.dump();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    read(std::as_bytes(std::span(data, size)));
  } catch (const bdh::Error&) {
  }
  return 0;
}
