// PyTorch files (.pt, .bin): a pickle and raw storages, in a zip archive or, before PyTorch 1.6, one behind
// the other. Files are hostile: the pickle is interpreted, never executed.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "bdh/base/error.h"
#include "bdh/base/json.h"
#include "bdh/base/tensor.h"

namespace bdh {

/// What a PyTorch file holds of a model.
struct TorchFile {
  TensorMap tensors;  // names as stored; views into the mapped file where the storage lies there uncompressed
  std::map<std::string, Error> unreadable;  // entries of the state_dict that are no tensors here, and why
  Json values;  // what stands beside the state_dict, as far as JSON has it: an object

  /// Reads a state_dict; a dictionary that holds one under one of the names in kStateDictKeys, also in one
  /// another; or a whole module, of which the parameters and buffers are taken and nothing is run. Throws
  /// Error(bad_file) naming the file and the reason; Error(unsupported) for what PyTorch wrote and this
  /// library cannot read; Error(not_found), Error(io).
  static TorchFile open(const std::filesystem::path& path);
};

/// Writes a state_dict that torch.load(weights_only=True) reads: an ordered dictionary of contiguous tensors.
/// Atomic: see AtomicFile. The same tensors give the same bytes.
void write_torch_file(const std::filesystem::path& path, const TensorMap& tensors);

}  // namespace bdh
