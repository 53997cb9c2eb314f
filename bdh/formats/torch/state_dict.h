// From a checkpoint's values to its tensors and configuration: shapes, strides and sizes are checked here,
// with the tensor's name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "bdh/formats/torch/pickle.h"
#include "bdh/formats/torch/torch_file.h"

namespace bdh {

/// The memory of one storage.
struct TorchStorage {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
  bool mapped = false;
  bool big_endian = false;
};

/// Finds the storage of that key. Throws Error for one that is not there.
using TorchStorages = std::function<TorchStorage(std::string_view key)>;

/// The state_dict in the pickle, and what stands beside it. All tensors together, written out row by row,
/// take at most `largest` bytes; those beyond are unreadable. Throws as TorchFile::open.
TorchFile read_state_dict(const Pickle& pickle, const TorchStorages& storages, uint64_t largest,
                          const std::string& source, TorchParts parts = TorchParts::state_dict);

}  // namespace bdh
