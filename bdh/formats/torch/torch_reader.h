// PyTorch files that are in memory already.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "bdh/formats/torch/torch_file.h"

namespace bdh {

/// As TorchFile::open, for the bytes of a mapped file that `owner` keeps alive and `source` names in errors.
TorchFile read_torch_file(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                          const std::string& source, TorchParts parts = TorchParts::state_dict);

}  // namespace bdh
