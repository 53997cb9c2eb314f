// What a model directory says beside its weights: how the model was trained, and how it is to be used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bdh/base/json.h"
#include "bdh/model/config.h"
#include "bdh/text/generation_config.h"

namespace bdh {

/// Bytes of files by their names in a model directory.
using NamedFiles = std::map<std::string, std::string>;

struct Remarks {
  Json training_args;         // training_args.json; null: none
  Json details;               // the user's fields of metadata.json; null: none
  NamedFiles training_files;  // those of kTrainingFiles that are there

  /// Tokens of a training example: `block_size` in training_args, details or the config, the first that has
  /// one.
  std::optional<int64_t> block_size(const Config& config) const;
};

/// These serve the card and the next save: what is wrong with them becomes a warning.
Remarks read_remarks(const std::filesystem::path& directory, std::vector<std::string>* warnings);

/// generation_config.json; without one what config.json says of special tokens, as in transformers. Throws
/// Error(bad_file) naming the file.
GenerationConfig read_generation_config(const Config& config, const std::filesystem::path& directory);
/// The same of what such a file holds; null: there is none. `source` names it in errors.
GenerationConfig generation_config_of(const Config& config, const Json& json, const std::string& source);

/// Puts `horizon` into the directory's generation_config.json, or takes it out where it is empty; the other
/// keys stay. Whole or not at all. Throws Error(bad_file), Error(io).
void write_horizon(const std::filesystem::path& directory, const std::vector<float>& horizon);

}  // namespace bdh
