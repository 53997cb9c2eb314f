// The model card: README.md with Hugging Face front matter, written from facts alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bdh/base/dtype.h"
#include "bdh/base/json.h"
#include "bdh/model/config.h"

namespace bdh {

/// What is known of a model. What is empty or null is left out of the card.
struct CardFacts {
  std::string name;  // the title
  Config config;
  DType dtype = DType::f32;                // of the parameters in the weights files
  std::vector<std::string> weights_files;  // their names, as find_weights looks for them
  std::string tokenizer;                   // its kind: "bytes", "BPE", "WordPiece", ...
  bool huggingface = false;                // transformers can load the directory
  std::string program_version;             // "0.1.0"
  std::optional<int64_t> block_size;       // tokens of a training example
  std::vector<float> horizon;              // of generation_config.json
  Json training_args;                      // training_args.json
  std::string picture;                     // of the loss in training: its name beside the card
  /// User fields. Used here: license, license_name, license_link, language, datasets (or dataset), tags,
  /// base_model (strings or arrays of strings), description, training, metrics and provenance (objects), and
  /// sparsity (as `bdh inspect --sparsity --json` prints it). `training` is what training measured, and its
  /// `command` what makes the model again.
  Json details;
};

/// The card as Markdown. Whatever the strings hold, the front matter stays valid YAML and a table keeps its
/// rows.
std::string model_card(const CardFacts& facts);

}  // namespace bdh
