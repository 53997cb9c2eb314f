// Fuzzes what a training run is taken up from: a run's state as JSON ('{' first), the pickle of a PyTorch
// checkpoint with its optimizer (0x80 first; all storages are the same few bytes), and else a checkpoint.
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string_view>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/formats/torch/state_dict.h"
#include "bdh/train/checkpoint.h"
#include "bdh/train/torch_optimizer.h"
#include "tests/fuzz/memory_file.h"

namespace {

constexpr uint64_t kLargest = uint64_t{1} << 20;
constexpr std::array<std::byte, 4096> kStorage{};

// What is read is written and read again as the same.
void read_state(std::string_view text) {
  const bdh::RunState state = bdh::RunState::from_json(bdh::Json::parse(text, "fuzz"), "fuzz");
  const std::string written = state.to_json().dump(0, bdh::NonFinite::python);
  const bdh::RunState again = bdh::RunState::from_json(bdh::Json::parse(written, "again"), "again");
  if (again.to_json().dump(0, bdh::NonFinite::python) != written) std::abort();
}

void read_optimizer(std::span<const std::byte> bytes) {
  const bdh::Pickle pickle = bdh::read_pickle(bytes, "fuzz");
  const auto storages = [](std::string_view) { return bdh::TorchStorage{kStorage, nullptr, true}; };
  const bdh::TorchFile file =
      bdh::read_state_dict(pickle, storages, kLargest, "fuzz", bdh::TorchParts::everything);
  std::vector<bdh::TorchParameter> parameters;
  for (const std::string& name : file.order) parameters.push_back({name, file.tensors.at(name).shape});
  const bdh::TorchMoments moments = bdh::read_torch_moments(file.values, file.beside, parameters, "fuzz");
  for (const auto& [name, tensor] : moments.exp_avg)
    if (tensor.shape != file.tensors.at(name).shape) std::abort();
}

void read_checkpoint(const uint8_t* data, size_t size) {
  const bdh::fuzz::MemoryFile file(data, size);
  bdh::read_checkpoint(file.path());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto* text = reinterpret_cast<const char*>(data);
  try {
    if (size > 0 && data[0] == '{') {
      read_state({text, size});
    } else if (size > 0 && data[0] == 0x80) {
      read_optimizer(std::as_bytes(std::span(data, size)));
    } else {
      read_checkpoint(data, size);
    }
  } catch (const bdh::Error&) {
  }
  return 0;
}
