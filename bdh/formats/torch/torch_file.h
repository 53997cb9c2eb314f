// PyTorch files (.pt, .bin): a zip archive of a pickle and raw storages. Files are hostile: the pickle is
// interpreted, never executed, and can build only plain values and tensors.
#pragma once

#include <filesystem>

#include "bdh/base/json.h"
#include "bdh/base/tensor.h"

namespace bdh {

/// What a PyTorch file holds of a model.
struct TorchFile {
  TensorMap tensors;  // names as stored; views into the mapped file where the storage lies there uncompressed
  Json config;        // the checkpoint's `config` dictionary, where it has one

  /// Reads a state_dict, or a checkpoint dictionary that holds one under model_state_dict, state_dict or
  /// model. Throws Error(bad_file) naming the file and the reason; Error(unsupported) for the format before
  /// PyTorch 1.6, saying how to convert it, and for globals other than those that make up a state_dict, by
  /// name; Error(not_found), Error(io).
  static TorchFile open(const std::filesystem::path& path);
};

/// Writes a state_dict that torch.load(weights_only=True) reads: an ordered dictionary of contiguous tensors.
/// Atomic: see AtomicFile. The same tensors give the same bytes.
void write_torch_file(const std::filesystem::path& path, const TensorMap& tensors);

}  // namespace bdh
