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

/// What save_config writes: the six fields and the keys that are kept, but not those of transformers, which
/// mean nothing beside weights that were not saved for it.
Json plain_config(const Config& config);

}  // namespace bdh
