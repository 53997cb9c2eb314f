// Model: a loaded model directory, and how it is saved again. Reads and writes config.json, weights,
// tokenizer, generation defaults, card and metadata; computes nothing itself.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/formats/shards.h"
#include "bdh/model/session.h"
#include "bdh/pretrained/config_file.h"
#include "bdh/pretrained/model_files.h"
#include "bdh/pretrained/remarks.h"
#include "bdh/pretrained/tokenizer_files.h"
#include "bdh/pretrained/weight_writer.h"
#include "bdh/text/generation.h"

namespace bdh {

struct LoadOptions {
  std::string device = "auto";  // auto, cpu; cuda with a build that has it
  int threads = 0;              // CPU threads; 0: the cores
  std::optional<DType> dtype;   // what the weights run as; by default as stored
  std::string format = "auto";  // auto: in the order find_weights looks; safetensors; pt
  bool strict = false;          // tensors that are no part of a BDH model are an error, not a warning
  bool verify = false;          // compare the weights files with the sha256 in metadata.json
  bool tokenizer = true;        // false: keep the tokenizer's files without making one of them
};

struct SaveOptions {
  bool safe_serialization = true;  // model.safetensors; else model.pt
  std::optional<DType> dtype;      // F64, F32, BF16 or F16, not of quantized weights; by default as they are
  bool packed = false;             // safetensors to be run where they lie (packed_layout.h); not of F64
  uint64_t max_shard_size = 5'000'000'000;  // bytes of tensors in one file; a tensor is never split
  Metadata metadata;                        // for every safetensors file's __metadata__
  bool save_tokenizer = true;
  std::optional<GenerationConfig> generation;  // by default the model's
  bool create_model_card = true;
  bool huggingface = false;   // add what transformers needs: AutoModelForCausalLM loads it
  bool overwrite = false;     // replace a model that stands there
  Json training_args;         // training_args.json; by default the model's
  NamedFiles training_files;  // training_metadata.json, training.svg; by default the model's
  Json details;           // fields for metadata.json and the card: name, metrics, ...; by default the model's
  ByteProgress progress;  // bytes written and hashed; false stops, and nothing is changed
};

/// What a model directory holds, in memory.
struct ModelBytes {
  std::span<const std::byte> weights;  // model.safetensors
  std::shared_ptr<const void> owner;  // of the weights; null: the caller keeps them for as long as the model,
                                      // its sessions and what was copied from them live
  std::string_view config;            // config.json
  std::string_view generation_config;  // generation_config.json; empty: none
  TokenizerFiles tokenizer;            // tokenizer.json and what stands beside it; none: bytes are tokens
};

/// A model directory, ready to run. Shares its weights with every session made from it.
struct Model {
  std::shared_ptr<const Weights> weights;
  std::shared_ptr<const Tokenizer> tokenizer;
  GenerationConfig generation;
  TokenizerSource tokenizer_source;   // as found, whether or not a tokenizer was made of it
  bool packed = false;                // its files are, as packed_layout.h says; the weights' config is not
  Metadata metadata;                  // of the safetensors files, without what bdh writes there itself
  Json training_args;                 // training_args.json; null: none
  NamedFiles training_files;          // training_metadata.json and training.svg, where they are
  Json details;                       // the user's fields of metadata.json; null: none
  std::vector<std::string> warnings;  // what was odd about the directory, a sentence each

  /// A weights file in the directory's place is from_weights_file. Throws Error naming the file and the
  /// remedy.
  static Model from_pretrained(const std::filesystem::path& directory, const LoadOptions& options = {});
  /// A weights file by itself, .safetensors, .npz or PyTorch's; `config` is its config.json, by default the
  /// one beside it or what the checkpoint says of itself. A tokenizer and the other files beside it count
  /// too. Throws as from_pretrained.
  static Model from_weights_file(const std::filesystem::path& file, const std::filesystem::path& config = {},
                                 const LoadOptions& options = {});
  /// The same as from_pretrained for what its files hold, without a file: weights are not copied. Throws
  /// Error(bad_file) and the others of from_pretrained, Error(unsupported) with `verify`.
  static Model from_memory(const ModelBytes& bytes, const LoadOptions& options = {});
  /// Writes a directory that from_pretrained, PyTorch and, with `huggingface`, transformers load. Makes the
  /// directory; killed or failed, it leaves the old model whole, the new one whole, or a directory without
  /// config.json that the next save completes (DirectoryUpdate). The user's other files stay. Returns
  /// warnings. Throws Error(invalid_argument) when a model stands there and `overwrite` is not set,
  /// Error(io), Error(cancelled).
  std::vector<std::string> save_pretrained(const std::filesystem::path& directory,
                                           const SaveOptions& options = {}) const;
  const Config& config() const { return weights->config(); }
  /// Tokens of a training example, where a file says so. Past it a model needs a horizon (SessionOptions).
  std::optional<int64_t> block_size() const;
};

}  // namespace bdh
