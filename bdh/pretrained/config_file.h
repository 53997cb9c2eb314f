// The config of a model directory: config.json, or what a PyTorch checkpoint says of itself where there is no
// config.json.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bdh/model/config.h"

namespace bdh {

/// Throws Error(not_found) or Error(bad_file), naming the file and the remedy; Error(invalid_argument) when
/// it is no directory.
Config read_config(const std::filesystem::path& directory, std::vector<std::string>* warnings = nullptr);

/// A config file by itself, of any name.
Config read_config_file(const std::filesystem::path& file, std::vector<std::string>* warnings = nullptr);

/// Writes config.json, atomically; makes the directory. Throws Error(io), Error(invalid_argument).
void save_config(const Config& config, const std::filesystem::path& directory);

/// What save_config writes: the six fields and the keys that are kept, but not keys_of_transformers. So the
/// Python that knows no more than the six fields loads what was made for transformers too.
Json plain_config(const Config& config);

/// What transformers wrote into a config that was made for it (model_type, auto_map, ...): the names of files
/// and classes, which mean nothing beside weights that are not saved for it. Empty for other configs.
std::vector<std::string> keys_of_transformers(const Config& config);

}  // namespace bdh
