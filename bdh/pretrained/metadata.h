// metadata.json: what wrote a model directory, when, the hashes of its weights files, and what the user adds.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"

namespace bdh {

struct WeightsFileHash {
  std::string file;  // its name in the directory
  uint64_t bytes = 0;
  std::string sha256;  // hexadecimal
};

struct ModelMetadata {
  Json format_version;      // a number, as the file has it
  std::string bdh_version;  // of the program that wrote it
  std::string created;      // UTC, "2026-11-22T13:05:00Z"
  std::vector<WeightsFileHash> weights;
  Json::Object details;  // the user's fields: metrics, provenance, ...

  /// Fields that are missing stay empty; unknown ones are details. `source` names the file in errors. Throws
  /// Error(bad_file).
  static ModelMetadata from_json(const Json& json, std::string_view source);
  Json to_json() const;
};

/// Throws Error(not_found), Error(bad_file), Error(io).
ModelMetadata read_model_metadata(const std::filesystem::path& directory);

/// Throws Error(invalid_argument) unless the fields are an object without a name that metadata.json uses
/// itself; null is none.
void require_details(const Json& details);

/// The time now, as `created` has it.
std::string utc_now();

/// Compares the files' sizes and sha256 with those in metadata.json, which must name each of them. Throws
/// Error(bad_file) for the first that differs, naming it; Error(not_found) when there is no metadata.json.
void verify_weights(const std::filesystem::path& directory, const std::vector<std::filesystem::path>& files);

}  // namespace bdh
