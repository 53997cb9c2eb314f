// PyTorch files, in builds with and without the part that reads them: the only place that knows which this
// is.
#pragma once

#include <filesystem>

#include "bdh/formats/torch/torch_file.h"

namespace bdh {

/// TorchFile::open. Throws Error(unsupported) in a build without BDH_TORCH, saying so.
TorchFile open_torch_file(const std::filesystem::path& path);

/// write_torch_file. Throws Error(unsupported) in a build without BDH_TORCH, saying so.
void save_torch_file(const std::filesystem::path& path, const TensorMap& tensors);

}  // namespace bdh
