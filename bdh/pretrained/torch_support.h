// PyTorch files, in builds with and without the part that reads them: the only place that knows which this
// is.
#pragma once

#include <filesystem>

#include "bdh/formats/torch/torch_file.h"

namespace bdh {

/// TorchFile::open. Throws Error(unsupported) in a build without BDH_TORCH, saying so.
TorchFile open_torch_file(const std::filesystem::path& path, TorchParts parts = TorchParts::state_dict);

/// write_torch_file. Throws Error(unsupported) in a build without BDH_TORCH, saying so.
void save_torch_file(const std::filesystem::path& path, const TensorMap& tensors);

/// The JSON as values that PyTorch reads; objects become dicts.
TorchValue torch_value_of(const Json& json);

/// write_torch_value. Throws Error(unsupported) in a build without BDH_TORCH, saying so.
void save_torch_value(const std::filesystem::path& path, const TorchValue& value);

}  // namespace bdh
