// config.json: read, written, and what transformers adds to it.
#include "bdh/pretrained/config_file.h"

#include <algorithm>
#include <system_error>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/pretrained/file_names.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxConfigBytes = 16'000'000;

}  // namespace

ConfigSource read_config_json(const fs::path& file) {
  return {file.string(), Json::parse(read_text(file, kMaxConfigBytes), file.string())};
}

void save_config(const Config& config, const fs::path& directory) {
  config.validate();
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) fail(ErrorKind::io, "cannot make directory '", directory.string(), "': ", error.message());
  AtomicFile file(directory / kConfigFile);
  file.write(plain_config(config).dump(2, NonFinite::python) + "\n");
  file.commit();
}

Json plain_config(const Config& config) {
  Config plain = config;
  const std::vector<std::string> left_out = keys_of_transformers(config);
  std::erase_if(plain.extra, [&](const Json::Member& member) {
    return std::find(left_out.begin(), left_out.end(), member.first) != left_out.end();
  });
  return plain.to_json();
}

std::vector<std::string> keys_of_transformers(const Config& config) {
  std::vector<std::string> keys;
  for (const Json::Member& member : config.extra) {
    if (is_written_by_transformers(member.first)) keys.push_back(member.first);
  }
  const bool made_for_transformers = std::find(keys.begin(), keys.end(), "model_type") != keys.end();
  return made_for_transformers ? keys : std::vector<std::string>{};
}

}  // namespace bdh
