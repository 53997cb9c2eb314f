// The weights files of a model and the config that goes with them, opened together.
#include "bdh/pretrained/model_files.h"

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/pretrained/config_file.h"
#include "bdh/pretrained/directory_update.h"
#include "bdh/pretrained/file_names.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr std::array kSizes{"n_layer", "n_embd", "n_head", "mlp_internal_dim_multiplier", "vocab_size"};

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

void require_directory(const fs::path& directory) {
  std::error_code error;
  const fs::file_status status = fs::status(directory, error);
  if (status.type() == fs::file_type::not_found) {
    fail(ErrorKind::not_found, "no such file or directory: '", directory.string(), "'");
  }
  if (error) fail(ErrorKind::io, "cannot open directory '", directory.string(), "': ", error.message());
  if (status.type() != fs::file_type::directory) {
    fail(ErrorKind::invalid_argument, "'", directory.string(),
         "' is neither a file nor a directory; give the directory that holds config.json and "
         "model.safetensors");
  }
}

[[noreturn]] void fail_without_config(const fs::path& directory) {
  const std::string interrupted = interrupted_update(directory);
  const std::string other = other_weights(directory);
  fail(ErrorKind::not_found, "'", directory.string(), "' has no config.json",
       interrupted.empty()
           ? ", so it is no model directory; it needs config.json and model.safetensors" + other
           : interrupted);
}

bool has_torch_file(const fs::path& directory) {
  return present(directory / kTorchFile) || present(directory / kTorchBinFile);
}

/// Only a PyTorch checkpoint can say its config itself.
ConfigSource config_of(const fs::path& directory) {
  require_directory(directory);
  const fs::path path = directory / kConfigFile;
  if (present(path)) return read_config_json(path);
  if (is_being_replaced(directory) || !has_torch_file(directory)) fail_without_config(directory);
  return {path.string(), {}};
}

bool says_all_sizes(const Json& values) {
  return std::all_of(kSizes.begin(), kSizes.end(),
                     [&](const char* key) { return values.find(key) != nullptr; });
}

}  // namespace

fs::path model_folder(const fs::path& path) {
  if (!is_file(path)) return path;
  return path.has_parent_path() ? path.parent_path() : ".";
}

ModelFiles open_model(const fs::path& directory, std::vector<std::string>* warnings,
                      const std::string& format) {
  if (is_file(directory)) return open_model_file(directory, {}, warnings);
  const ConfigSource config = config_of(directory);
  const bool own = config.values.is_null();
  ModelFiles opened{find_weights(directory, warnings, own && format == "auto" ? "pt" : format), {}};
  if (own && own_config(opened.files.values(), "").values.is_null()) fail_without_config(directory);
  opened.model = import_model(opened.files, config, warnings);
  return opened;
}

ModelFiles open_model_file(const fs::path& file, const fs::path& config, std::vector<std::string>* warnings) {
  ModelFiles opened{open_weights_file(file), {}};
  const fs::path beside = file.parent_path() / kConfigFile;
  ConfigSource given{beside.string(), {}};
  if (!config.empty()) {
    given = read_config_json(config);
    given.asked_for = true;
  } else if (present(beside)) {
    given = read_config_json(beside);
  }
  opened.model = import_model(opened.files, given, warnings);
  return opened;
}

Config read_config(const fs::path& directory, std::vector<std::string>* warnings) {
  if (is_file(directory)) return open_model_file(directory, {}, warnings).model.config;
  const ConfigSource config = config_of(directory);
  if (!config.values.is_null() && says_all_sizes(config.values))
    return Config::from_json(config.values, config.name, warnings);
  return open_model(directory, warnings).model.config;
}

}  // namespace bdh
