// config.json: read, written, and what transformers adds to it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "bdh/model/config.h"
#include "bdh/pretrained/dialects/config_keys.h"

namespace bdh {

/// A config file of any name. Throws Error(not_found), Error(io), Error(bad_file) naming it.
ConfigSource read_config_json(const std::filesystem::path& file);

/// Writes config.json, atomically; makes the directory. Throws Error(io), Error(invalid_argument).
void save_config(const Config& config, const std::filesystem::path& directory);

/// What save_config writes: the six fields and the keys that are kept, but not keys_of_transformers. So the
/// Python that knows no more than the six fields loads what was made for transformers too.
Json plain_config(const Config& config);

/// What transformers wrote into a config that was made for it (model_type, auto_map, ...): the names of files
/// and classes, which mean nothing beside weights that are not saved for it. Empty for other configs.
std::vector<std::string> keys_of_transformers(const Config& config);

}  // namespace bdh
