// Model: a loaded model directory, and how it is saved again. Reads and writes config.json, weights,
// tokenizer, generation defaults, card and metadata; computes nothing itself.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "bdh/model/session.h"
#include "bdh/text/generation.h"

namespace bdh {

struct LoadOptions {
  std::string device = "auto";  // auto, cpu; cuda with a build that has it
  int threads = 0;              // CPU threads; 0: the cores
  std::optional<DType> dtype;   // what the weights run as; by default as stored
  std::string format = "auto";  // auto: in the order find_weights looks; safetensors; pt
  bool strict = false;          // tensors that are no part of a BDH model are an error, not a warning
  bool verify = false;          // compare the weights files with the sha256 in metadata.json
};

struct SaveOptions {
  bool safe_serialization = true;           // model.safetensors; else model.pt
  std::optional<DType> dtype;               // F32, BF16 or F16; by default as the model has them
  uint64_t max_shard_size = 5'000'000'000;  // bytes of tensors in one file; a tensor is never split
  Metadata metadata;                        // for every weights file's __metadata__
  bool save_tokenizer = true;
  bool create_model_card = true;
  bool huggingface = false;  // add what transformers needs: AutoModelForCausalLM loads it
  bool overwrite = false;    // replace a model that stands there
  Json training_args;        // training_args.json; null: none
  Json details;              // user fields for metadata.json: metrics, provenance, ...
};

/// A model directory, ready to run. Shares its weights with every session made from it.
struct Model {
  std::shared_ptr<const Weights> weights;
  std::shared_ptr<const Tokenizer> tokenizer;
  GenerationConfig generation;
  std::vector<std::string> warnings;  // what was odd about the directory, a sentence each

  /// Throws Error naming the file and the remedy.
  static Model from_pretrained(const std::filesystem::path& directory, const LoadOptions& options = {});
  /// Writes a directory that from_pretrained, PyTorch and, with `huggingface`, transformers load. Makes the
  /// directory; a killed save leaves the old model whole, the new one whole, or a directory that is plainly
  /// incomplete. Returns warnings. Throws Error(invalid_argument) when a model stands there and `overwrite`
  /// is not set, Error(io).
  std::vector<std::string> save_pretrained(const std::filesystem::path& directory,
                                           const SaveOptions& options = {}) const;
  const Config& config() const { return weights->config(); }
};

/// Bytes of "500MB", "2GB", "1GiB", "5000": decimal units as the reference package counts them, binary ones
/// with an i. Throws Error(invalid_argument).
uint64_t parse_size(std::string_view text);

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
