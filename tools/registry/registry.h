// A registry of models and their versions: one JSON file, {name: {version: {path, metadata, registered_at}}},
// and a `latest` link beside the versions.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"

namespace bdh::tools {

struct RegistryEntry {
  std::string name;
  std::string version;
  std::string path;  // as it stands in the file
  Json metadata;     // an object
  std::string registered_at;
};

/// $BDH_REGISTRY, or ./model_registry.json.
std::string default_registry();

/// Reads the file anew for each call and replaces it whole, under a lock of its own (FILE.lock), so that any
/// number of processes may use one. A file that is not there is an empty registry.
/// All throw Error(bad_file) naming file, model and version for a file that is no registry.
class ModelRegistry {
 public:
  explicit ModelRegistry(std::filesystem::path file);

  /// Registers or replaces a version. A relative `path` is relative to the current directory. Where the path
  /// contains NAME/VERSION, the link NAME/latest is set to the newest version registered there. Returns
  /// warnings. Throws Error(invalid_argument) for a name or version that cannot be one and for metadata that
  /// is no object, Error(not_found) when path is no directory, Error(io).
  std::vector<std::string> add(const std::string& name, const std::string& version,
                               const std::filesystem::path& path, const Json& metadata = Json::Object{});

  /// Every version, by name, the oldest first.
  std::vector<RegistryEntry> list() const;

  /// The version, or the newest for "latest". "1.0" finds "v1.0" when there is no "1.0". Throws
  /// Error(not_found).
  RegistryEntry find(std::string_view name, std::string_view version = "latest") const;

  /// NAME, NAME:VERSION or NAME:latest. Throws as find.
  RegistryEntry named(std::string_view which) const;
  /// Where the entry's directory is, seen from the current directory: a relative path in the file is relative
  /// to the file.
  std::filesystem::path locate(const RegistryEntry& entry) const;

  /// Forgets a version; its files stay. Throws as find. Returns warnings.
  std::vector<std::string> remove(std::string_view name, std::string_view version);

 private:
  std::filesystem::path file_;
};

/// -1, 0 or 1: which version is older, by semver.org's rule 11 (numbers as numbers, a pre-release before its
/// release, build metadata ignored), for any count of numbers and with or without a leading v. What is no
/// such version is older than all that are, and ordered by its bytes.
int compare_versions(std::string_view a, std::string_view b);

/// True for 1, v1.0, 1.2.3-rc.1+build: what `add` takes.
bool is_version(std::string_view text);

}  // namespace bdh::tools
