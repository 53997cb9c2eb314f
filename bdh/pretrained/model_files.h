// The weights files of a model and the config that goes with them, opened together: who wrote them is told
// from both.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bdh/pretrained/dialects/importer.h"
#include "bdh/pretrained/weight_files.h"

namespace bdh {

struct ModelFiles {
  WeightFiles files;
  ImportedModel model;
};

/// The directory of a model that is named by its directory or by a weights file.
std::filesystem::path model_folder(const std::filesystem::path& path);

/// Of a model directory, or of a weights file by itself: config.json, or what a PyTorch checkpoint says of
/// itself where there is none, and the weights that find_weights finds. Throws as find_weights and
/// import_model; Error(not_found) for a directory or config that is not there, Error(invalid_argument) when
/// it is neither.
ModelFiles open_model(const std::filesystem::path& directory, std::vector<std::string>* warnings = nullptr,
                      const std::string& format = "auto");

/// Of a weights file by itself, .safetensors, .npz or PyTorch's; `config` is its config.json, by default the
/// one beside it, if there is one.
ModelFiles open_model_file(const std::filesystem::path& file, const std::filesystem::path& config = {},
                           std::vector<std::string>* warnings = nullptr);

/// The config of a model directory or weights file. Opens the weights only where config.json does not say all
/// sizes. Throws as open_model.
Config read_config(const std::filesystem::path& directory, std::vector<std::string>* warnings = nullptr);

}  // namespace bdh
