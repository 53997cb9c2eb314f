// Writes a state_dict as weights files: safetensors or PyTorch's, one file or shards with their index.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bdh/formats/safetensors.h"

namespace bdh {

/// Told the bytes done of how many; false stops the work with Error(cancelled).
using ByteProgress = std::function<bool(uint64_t done, uint64_t total)>;

/// Adds up what has been done and tells it.
class ByteMeter {
 public:
  ByteMeter(ByteProgress progress, uint64_t total) : progress_(std::move(progress)), total_(total) {}
  /// Throws Error(cancelled) when the callback asks to stop.
  void add(uint64_t bytes);

 private:
  ByteProgress progress_;
  uint64_t total_;
  uint64_t done_ = 0;
};

/// The tensors in the order of a state_dict.
using TensorList = std::vector<std::pair<std::string, Tensor>>;

struct WeightForm {
  bool safetensors = true;    // else PyTorch's
  bool transformers = false;  // PyTorch's as transformers looks for it: pytorch_model.bin, not model.pt
  bool packed = false;        // tensors are those of packed_layout.h: aligned, and marked in the metadata
  uint64_t max_shard_size = UINT64_MAX;
  std::optional<DType> dtype;  // of all tensors but attn.freqs; by default as they are
  Metadata metadata;           // every safetensors file's __metadata__; PyTorch's have no place for it
  int64_t parameters = 0;      // for the index
};

/// Bytes of the tensors in that dtype.
uint64_t bytes_to_write(const TensorList& tensors, const WeightForm& form);

/// Writes them into the directory and returns the names of the files that hold tensors. Converts one shard at
/// a time. Throws Error(io), Error(invalid_argument), Error(unsupported), Error(cancelled).
std::vector<std::string> write_weights(const std::filesystem::path& directory, const TensorList& tensors,
                                       const WeightForm& form, ByteMeter& meter);

/// Writes them as one file of that name.
void write_weights_file(const std::filesystem::path& path, const TensorList& tensors, const WeightForm& form,
                        ByteMeter& meter);

}  // namespace bdh
