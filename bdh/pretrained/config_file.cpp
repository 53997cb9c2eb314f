// The config of a model directory: config.json, or what a PyTorch checkpoint says of itself where there is no
// config.json.
#include "bdh/pretrained/config_file.h"

#include <algorithm>
#include <array>
#include <system_error>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/pretrained/directory_update.h"
#include "bdh/pretrained/file_names.h"
#include "bdh/pretrained/weight_files.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxConfigBytes = 16'000'000;

// What transformers, and huggingface_config() for it, write into every config.json.
constexpr std::array<std::string_view, 13> kTransformersKeys{
    "model_type",   "architectures",        "auto_map",
    "dtype",        "torch_dtype",          "eos_token_id",
    "bos_token_id", "transformers_version", "pad_token_id",
    "use_cache",    "tie_word_embeddings",  "tokenizer_class",
    "_name_or_path"};

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

void require_directory(const fs::path& directory) {
  std::error_code error;
  const fs::file_status status = fs::status(directory, error);
  if (status.type() == fs::file_type::not_found) {
    fail(ErrorKind::not_found, "no such directory: '", directory.string(), "'");
  }
  if (error) fail(ErrorKind::io, "cannot open directory '", directory.string(), "': ", error.message());
  if (status.type() != fs::file_type::directory) {
    fail(ErrorKind::invalid_argument, "'", directory.string(),
         "' is not a directory; give the directory that holds config.json and model.safetensors");
  }
}

[[noreturn]] void fail_without_config(const fs::path& directory) {
  const std::string interrupted = interrupted_update(directory);
  fail(ErrorKind::not_found, "'", directory.string(), "' has no config.json",
       interrupted.empty() ? ", so it is no model directory; it needs config.json and model.safetensors"
                           : interrupted);
}

bool has_torch_file(const fs::path& directory) {
  return present(directory / kTorchFile) || present(directory / kTorchBinFile);
}

Config checkpoint_config(const fs::path& directory, std::vector<std::string>* warnings) {
  if (is_being_replaced(directory) || !has_torch_file(directory)) fail_without_config(directory);
  const WeightFiles checkpoint = find_weights(directory, nullptr, "pt");
  const Json config = checkpoint.config();
  if (config.is_null()) fail_without_config(directory);
  return Config::from_json(config, concat(checkpoint.source.string(), ": config"), warnings);
}

}  // namespace

Config read_config(const fs::path& directory, std::vector<std::string>* warnings) {
  require_directory(directory);
  const fs::path path = directory / kConfigFile;
  return present(path) ? read_config_file(path, warnings) : checkpoint_config(directory, warnings);
}

Config read_config_file(const fs::path& file, std::vector<std::string>* warnings) {
  return Config::from_json(Json::parse(read_text(file, kMaxConfigBytes), file.string()), file.string(),
                           warnings);
}

void save_config(const Config& config, const fs::path& directory) {
  config.validate();
  std::error_code error;
  fs::create_directories(directory, error);
  if (error) fail(ErrorKind::io, "cannot make directory '", directory.string(), "': ", error.message());
  AtomicFile file(directory / kConfigFile);
  file.write(plain_config(config).dump(2) + "\n");
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
    if (std::find(kTransformersKeys.begin(), kTransformersKeys.end(), member.first) !=
        kTransformersKeys.end())
      keys.push_back(member.first);
  }
  const bool made_for_transformers = std::find(keys.begin(), keys.end(), "model_type") != keys.end();
  return made_for_transformers ? keys : std::vector<std::string>{};
}

}  // namespace bdh
