// NumPy's .npz files, as MLX and NumPy save state_dicts: a zip archive of .npy files.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "bdh/formats/torch/torch_file.h"

namespace bdh {

/// Whether a zip archive begins with a .npy file.
bool is_npz(std::string_view bytes);

/// Its arrays by name, as tensors; views where they are stored uncompressed. What has no dtype of ours is
/// unreadable: objects, which NumPy pickles, are never made. Throws Error(bad_file) naming `source`.
TorchFile read_npz(std::span<const std::byte> bytes, const std::shared_ptr<const void>& owner,
                   const std::string& source);

}  // namespace bdh
