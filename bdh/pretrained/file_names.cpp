// The names of the files in a model directory.
#include "bdh/pretrained/file_names.h"

#include <algorithm>

namespace bdh {
namespace {

constexpr std::array kWeightsFiles{kSafetensorsIndex, kSafetensorsFile, kTorchFile, kTorchBinIndex,
                                   kTorchBinFile};
constexpr std::array kOtherFiles{kConfigFile, kMetadataFile, kGenerationFile, kTrainingArgsFile};

template <class Names>
bool contains(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool take(std::string_view& name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return false;
  name.remove_prefix(prefix.size());
  return true;
}

bool take_number(std::string_view& name) {
  const size_t digits = std::min(name.find_first_not_of("0123456789"), name.size());
  name.remove_prefix(digits);
  return digits >= 5;
}

/// STEM-00001-of-00002EXTENSION
bool is_shard(std::string_view name, std::string_view stem, std::string_view extension) {
  return take(name, stem) && take(name, "-") && take_number(name) && take(name, "-of-") &&
         take_number(name) && name == extension;
}

}  // namespace

bool is_weights_file(std::string_view name) {
  return contains(kWeightsFiles, name) || is_shard(name, "model", ".safetensors") ||
         is_shard(name, "pytorch_model", ".bin");
}

bool is_model_file(std::string_view name) {
  return is_weights_file(name) || contains(kOtherFiles, name) || contains(kTrainingFiles, name) ||
         contains(kTokenizerFiles, name);
}

}  // namespace bdh
