// Model: a loaded model directory. Reads config.json, weights, tokenizer and generation defaults; computes
// nothing itself.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "bdh/model/session.h"
#include "bdh/text/generation.h"

namespace bdh {

struct LoadOptions {
  std::string device = "auto";  // auto, cpu; cuda with a build that has it
  int threads = 0;              // CPU threads; 0: the cores
  std::optional<DType> dtype;   // what the weights run as; by default as stored
};

/// A model directory, ready to run. Shares its weights with every session made from it.
struct Model {
  std::shared_ptr<const Weights> weights;
  std::shared_ptr<const Tokenizer> tokenizer;
  GenerationConfig generation;
  std::vector<std::string> warnings;  // what was odd about the directory, a sentence each

  /// Throws Error naming the file and the remedy.
  static Model from_pretrained(const std::filesystem::path& directory, const LoadOptions& options = {});
  const Config& config() const { return weights->config(); }
};

/// The config.json of a model directory. Throws Error(not_found) or Error(bad_file), naming the file and the
/// remedy.
Config read_config(const std::filesystem::path& directory, std::vector<std::string>* warnings = nullptr);

/// The tensors of a model directory's weights files, unconverted and unread, and where they come from.
struct WeightFiles {
  std::filesystem::path source;  // model.safetensors, or the index of its shards
  std::vector<SafetensorsFile> files;
  TensorMap state_dict() const;  // Throws Error(bad_file) for a name that stands twice
};

/// Looks for model.safetensors.index.json, then model.safetensors; warns when it chose among several and
/// when a file's format version is newer than ours.
WeightFiles find_weights(const std::filesystem::path& directory,
                         std::vector<std::string>* warnings = nullptr);

/// The backend for "auto", "cpu". Throws Error(unsupported) for "cuda" in a build without it.
std::shared_ptr<Backend> make_backend(const std::string& device, int threads);

}  // namespace bdh
