// Finds and opens the weights files of a model directory, whichever form they have.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "bdh/formats/torch/torch_file.h"

namespace bdh {

/// The tensors of a model's weights files, unconverted and unread, and where they come from.
class WeightFiles {
 public:
  std::filesystem::path source;              // the weights file, or the index of its shards
  std::vector<std::filesystem::path> paths;  // the files that hold tensors
  std::vector<SafetensorsFile> files;        // one for each path, or none when they are PyTorch's
  std::vector<TorchFile> torch_files;        // one for each path, or none when they are safetensors
  std::map<std::string, size_t> places;      // of tensors that an index lists: which file has them
  std::map<std::string, Error> missing;      // of tensors that an index lists and the file has not

  /// Those that can be read. Of a name that stands in several files the one counts that the index says; where
  /// it says nothing, the last, as in transformers.
  TensorMap state_dict() const;
  /// The files' __metadata__ together; empty for PyTorch's.
  Metadata metadata() const;
  /// Their metadata says that the weights are (packed_layout.h).
  bool packed() const;
  /// What PyTorch checkpoints hold beside their state_dict, and the config of a training run's checkpoint: an
  /// object.
  Json values() const;
  /// What the files or their index name and no tensor can be made of, and why.
  std::map<std::string, Error> unreadable() const;

 private:
  bool counts(const std::string& name, size_t file) const;
};

/// Looks for model.safetensors, model.safetensors.index.json, model.pt, pytorch_model.bin,
/// pytorch_model.bin.index.json, in that order; format "safetensors" or "pt" allows only those, "auto" all.
/// Warns when it chose among several and when a file's format version is newer than ours. Throws
/// Error(not_found) when there is none, Error(unsupported) for PyTorch's in a build that cannot read them,
/// Error(invalid_argument) for another format, Error(bad_file) and Error(io) as the files' readers.
WeightFiles find_weights(const std::filesystem::path& directory, std::vector<std::string>* warnings = nullptr,
                         const std::string& format = "auto");

/// For errors: what can be given instead of a directory in which no weights are found, the weights files
/// there under other names. Empty: there are none.
std::string other_weights(const std::filesystem::path& directory);

/// One weights file by itself: .safetensors, or PyTorch's or .npz under any other name.
WeightFiles open_weights_file(const std::filesystem::path& path);

/// Warns about a format version that is newer than ours, or none at all. `source` names its file.
void check_format_version(const std::string& version, const std::string& source,
                          std::vector<std::string>* warnings);

/// The version that this build writes and knows.
inline constexpr int kFormatVersion = 1;

}  // namespace bdh
