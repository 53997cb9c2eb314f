// Model::from_pretrained: puts together what the files of a model directory hold. Computes nothing itself.
#include "bdh/pretrained/model.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/printable.h"
#include "bdh/base/sha256.h"
#include "bdh/pretrained/directory_update.h"
#include "bdh/pretrained/file_names.h"
#include "bdh/pretrained/metadata.h"
#include "bdh/pretrained/remarks.h"
#include "kernels/backends.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr int kAttempts = 5;
constexpr auto kPause = std::chrono::milliseconds(20);
constexpr std::array kOwnMetadata{"format", "format_version"};
constexpr std::string_view kRunMetadata = "bdh.";  // before what a training run's checkpoint says of its run

using Warnings = std::vector<std::string>;

void refuse_strangers(const ImportedTensors& weights, const std::string& source) {
  if (weights.strangers.empty()) return;
  fail(ErrorKind::bad_file, source, ": tensor ", printable(weights.strangers.front()),
       " is not part of a BDH model; load without strict to ignore it");
}

/// Where the hash of the weights in these files is kept: in the user's cache, named by their sizes and times.
/// Empty where there is no such place.
fs::path hash_file_of(const std::vector<fs::path>& paths) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if (!(cache && *cache) && !(home && *home)) return {};
  Sha256 sum;
  for (const fs::path& path : paths) {
    const auto [device, inode, size, written] = identity_of(path);
    const std::string line =
        concat(fs::absolute(path).string(), " ", device, " ", inode, " ", size, " ", written, "\n");
    sum.add(std::as_bytes(std::span(line)));
  }
  return (cache && *cache ? fs::path(cache) : fs::path(home) / ".cache") / "bdh" / "hashes" / sum.finish();
}

Metadata user_metadata(const WeightFiles& files) {
  Metadata metadata = files.metadata();
  for (const char* key : kOwnMetadata) metadata.erase(key);
  std::erase_if(metadata, [](const auto& entry) { return entry.first.starts_with(kRunMetadata); });
  return metadata;
}

void take_weights(Model& model, const ModelFiles& opened, const LoadOptions& options) {
  const WeightFiles& files = opened.files;
  const std::string source = files.source.string();
  if (options.strict) refuse_strangers(opened.model.weights, source);
  if (options.verify) verify_weights(files.source.parent_path(), files.paths);
  const auto weights = std::make_shared<Weights>(opened.model.config, opened.model.weights.tensors,
                                                 make_backend(options.device, options.threads), options.dtype,
                                                 source, &model.warnings);
  if (!files.paths.empty()) weights->hash_file = hash_file_of(files.paths);
  model.weights = weights;
  model.metadata = user_metadata(files);
  model.packed = opened.model.config.packed;
}

void take_generation(Model& model, GenerationConfig generation, const fs::path& directory) {
  model.generation = std::move(generation);
  for (const std::string& useless : model.generation.useless_options(model.config().vocab_size))
    model.warnings.push_back(concat(directory.string(), ": ", useless));
}

void take_tokenizer(Model& model, TokenizerSource source, const fs::path& directory,
                    const LoadOptions& options) {
  model.tokenizer_source = std::move(source);
  if (!options.tokenizer) return;
  model.tokenizer =
      tokenizer_from(model.tokenizer_source, model.config().vocab_size, directory, &model.warnings);
}

/// What stands beside the weights.
void take_companions(Model& model, const fs::path& directory, const Json& values,
                     const LoadOptions& options) {
  const Config& config = model.config();
  take_generation(model, read_generation_config(config, directory), directory);
  take_tokenizer(model, find_tokenizer(directory, config.vocab_size, config.extra, values), directory,
                 options);
  Remarks remarks = read_remarks(directory, &model.warnings);
  model.training_args = std::move(remarks.training_args);
  model.details = std::move(remarks.details);
  model.training_files = std::move(remarks.training_files);
}

Model load(const fs::path& directory, const LoadOptions& options) {
  Model model;
  const ModelFiles opened = open_model(directory, &model.warnings, options.format);
  take_weights(model, opened, options);
  take_companions(model, directory, opened.files.values(), options);
  return model;
}

}  // namespace

std::optional<int64_t> Model::block_size() const {
  return Remarks{training_args, details, {}}.block_size(config());
}

Model Model::from_weights_file(const fs::path& file, const fs::path& config, const LoadOptions& options) {
  Model model;
  const ModelFiles opened = open_model_file(file, config, &model.warnings);
  take_weights(model, opened, options);
  take_companions(model, model_folder(file), opened.files.values(), options);
  return model;
}

Model Model::from_memory(const ModelBytes& bytes, const LoadOptions& options) {
  const std::string name = "model in memory";
  const fs::path folder = name;
  if (options.verify) {
    fail(ErrorKind::unsupported, name, ": there is no metadata.json to verify it with; load without verify");
  }
  ModelFiles opened;
  opened.files.source = folder / kSafetensorsFile;
  opened.files.files.push_back(
      SafetensorsFile::of_bytes(bytes.weights, bytes.owner, opened.files.source.string()));
  ConfigSource given;
  given.name = (folder / kConfigFile).string();
  given.values = Json::parse(bytes.config, given.name);
  Model model;
  opened.model = import_model(opened.files, given, &model.warnings);
  take_weights(model, opened, options);
  const Config& config = model.config();
  const std::string generation = (folder / kGenerationFile).string();
  const bool generates = !bytes.generation_config.empty();
  const Json json = generates ? Json::parse(bytes.generation_config, generation) : Json();
  take_generation(model, generation_config_of(config, json, generates ? generation : given.name), folder);
  take_tokenizer(model, tokenizer_source_of(bytes.tokenizer, name, config.vocab_size, config.extra), folder,
                 options);
  return model;
}

// A save may replace the model between the reading of two files: then it is read again.
Model Model::from_pretrained(const fs::path& directory, const LoadOptions& options) {
  if (model_folder(directory) != directory) return from_weights_file(directory, {}, options);
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
