// Model::from_pretrained: puts together what the files of a model directory hold. Computes nothing itself.
#include "bdh/pretrained/model.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/printable.h"
#include "bdh/base/sha256.h"
#include "bdh/pretrained/directory_update.h"
#include "bdh/pretrained/file_names.h"
#include "bdh/pretrained/metadata.h"
#include "bdh/pretrained/remarks.h"
#include "bdh/pretrained/tokenizer_files.h"
#include "kernels/backends.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr int kAttempts = 5;
constexpr auto kPause = std::chrono::milliseconds(20);
constexpr std::array kOwnMetadata{"format", "format_version"};

using Warnings = std::vector<std::string>;

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

void refuse_unknown_tensors(const TensorMap& tensors, const Config& config, const std::string& source) {
  std::set<std::string, std::less<>> known;
  for (const auto& [name, shape] : parameter_shapes(config)) known.insert(name);
  for (const auto& [name, tensor] : tensors) {
    if (!known.contains(plain_name(name))) {
      fail(ErrorKind::bad_file, source, ": tensor ", printable(name),
           " is not part of a BDH model; load without strict to ignore it");
    }
  }
}

/// What changes when another file takes a file's place.
using FileIdentity = std::tuple<uint64_t, uint64_t, int64_t, int64_t, int64_t>;
FileIdentity identity_of(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return {};
  return {info.st_dev, info.st_ino, info.st_size, info.st_mtim.tv_sec, info.st_mtim.tv_nsec};
}

/// Where the hash of the weights in these files is kept: in the user's cache, named by their sizes and times.
/// Empty where there is no such place.
fs::path hash_file_of(const std::vector<fs::path>& paths) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if (!(cache && *cache) && !(home && *home)) return {};
  Sha256 sum;
  for (const fs::path& path : paths) {
    const auto [device, inode, size, seconds, nanoseconds] = identity_of(path);
    const std::string line = concat(fs::absolute(path).string(), " ", device, " ", inode, " ", size, " ",
                                    seconds, " ", nanoseconds, "\n");
    sum.add(std::as_bytes(std::span(line)));
  }
  return (cache && *cache ? fs::path(cache) : fs::path(home) / ".cache") / "bdh" / "hashes" / sum.finish();
}

Metadata user_metadata(const WeightFiles& files) {
  Metadata metadata = files.metadata();
  for (const char* key : kOwnMetadata) metadata.erase(key);
  return metadata;
}

void take_weights(Model& model, const Config& config, const WeightFiles& files, const LoadOptions& options) {
  const TensorMap tensors = files.state_dict();
  const std::string source = files.source.string();
  if (options.strict) refuse_unknown_tensors(tensors, config, source);
  if (options.verify) verify_weights(files.source.parent_path(), files.paths);
  const auto weights = std::make_shared<Weights>(
      config, tensors, make_backend(options.device, options.threads), options.dtype, source, &model.warnings);
  weights->hash_file = hash_file_of(files.paths);
  model.weights = weights;
  model.metadata = user_metadata(files);
}

/// What stands beside the weights.
void take_companions(Model& model, const fs::path& directory, const LoadOptions& options) {
  model.generation = read_generation_config(model.config(), directory);
  for (const std::string& useless : model.generation.useless_options(model.config().vocab_size))
    model.warnings.push_back(concat(directory.string(), ": ", useless));
  model.tokenizer_files = read_tokenizer_files(directory);
  if (options.tokenizer) {
    model.tokenizer =
        tokenizer_from(model.tokenizer_files, model.config().vocab_size, directory, &model.warnings);
  }
  Remarks remarks = read_remarks(directory, &model.warnings);
  model.training_args = std::move(remarks.training_args);
  model.details = std::move(remarks.details);
}

Model load(const fs::path& directory, const LoadOptions& options) {
  Model model;
  const Config config = read_config(directory, &model.warnings);
  take_weights(model, config, find_weights(directory, &model.warnings, options.format), options);
  take_companions(model, directory, options);
  return model;
}

Config config_for(const WeightFiles& files, const fs::path& config, Warnings* warnings) {
  if (!config.empty()) return read_config_file(config, warnings);
  const fs::path beside = files.source.parent_path() / kConfigFile;
  if (present(beside)) return read_config_file(beside, warnings);
  const Json own = files.config();
  if (!own.is_null()) return Config::from_json(own, concat(files.source.string(), ": config"), warnings);
  fail(ErrorKind::not_found, "'", files.source.string(),
       "' has no config.json beside it; name one (--config FILE)");
}

}  // namespace

std::optional<int64_t> Model::block_size() const {
  return Remarks{training_args, details}.block_size(config());
}

Model Model::from_weights_file(const fs::path& file, const fs::path& config, const LoadOptions& options) {
  Model model;
  const WeightFiles files = open_weights_file(file);
  take_weights(model, config_for(files, config, &model.warnings), files, options);
  take_companions(model, file.parent_path(), options);
  return model;
}

// A save may replace the model between the reading of two files: then it is read again.
Model Model::from_pretrained(const fs::path& directory, const LoadOptions& options) {
  const fs::path config = directory / kConfigFile;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    const FileIdentity before = identity_of(config);
    try {
      Model model = load(directory, options);
      if (identity_of(config) == before) return model;
    } catch (const Error&) {
      const bool settled =
          identity_of(config) == before && !(before == FileIdentity{} && is_being_replaced(directory));
      if (settled || attempt + 1 == kAttempts) throw;
      std::this_thread::sleep_for(kPause);
    }
  }
  fail(ErrorKind::io, "'", directory.string(), "' was saved again each time it was read; try again later");
}

}  // namespace bdh
