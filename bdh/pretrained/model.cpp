// Model: a loaded model directory. Reads config.json, weights, tokenizer and generation defaults; computes
// nothing itself.
#include "bdh/pretrained/model.h"

#include <array>
#include <charconv>
#include <map>
#include <set>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/printable.h"
#include "kernels/cpu/backend.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxConfigBytes = 16'000'000;
constexpr size_t kMaxIndexBytes = 64'000'000;
constexpr size_t kMaxGenerationBytes = 1'000'000;
constexpr int64_t kFormatVersion = 1;
constexpr int64_t kByteVocabulary = 256;

constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kSingle = "model.safetensors";

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

void require_model_directory(const fs::path& directory) {
  std::error_code error;
  const fs::file_status status = fs::status(directory, error);
  if (status.type() == fs::file_type::not_found)
    fail(ErrorKind::not_found, "no such directory: '", directory.string(), "'");
  if (error) fail(ErrorKind::io, "cannot open directory '", directory.string(), "': ", error.message());
  if (status.type() != fs::file_type::directory)
    fail(ErrorKind::invalid_argument, "'", directory.string(),
         "' is not a directory; give the directory that holds config.json and model.safetensors");
}

Json read_json(const fs::path& path, size_t max_bytes) {
  return Json::parse(read_text(path, max_bytes), path.string());
}

GenerationConfig read_generation_config(const fs::path& directory) {
  const fs::path path = directory / "generation_config.json";
  if (!present(path)) return {};
  return GenerationConfig::from_json(read_json(path, kMaxGenerationBytes), path.string());
}

/// Byte-level models need no file; other tokenizers are not read by this version.
std::shared_ptr<const Tokenizer> find_tokenizer(const fs::path& directory, const Config& config) {
  if (config.vocab_size != kByteVocabulary || present(directory / "tokenizer.json")) return nullptr;
  return std::make_shared<ByteTokenizer>();
}

void check_format_version(const SafetensorsFile& file, std::vector<std::string>* warnings) {
  const auto found = file.metadata().find("format_version");
  if (found == file.metadata().end() || !warnings) return;
  const std::string& text = found->second;
  int64_t version = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  if (error != std::errc() || end != text.data() + text.size())
    warnings->push_back(
        concat(file.path().string(), ": format_version ", printable(text), " is no whole number; ignored"));
  else if (version > kFormatVersion)
    warnings->push_back(concat(file.path().string(), ": format version ", version,
                               " is newer than this build's ", kFormatVersion, "; loading it anyway"));
}

/// A shard must lie beside its index: a plain name, never a path.
void require_plain_name(const std::string& name, const fs::path& index, const std::string& tensor) {
  const bool plain = !name.empty() && name != "." && name != ".." &&
                     name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
  if (!plain)
    fail(ErrorKind::bad_file, index.string(), ": weight_map: tensor ", printable(tensor), " names the file ",
         printable(name), ", which is not a plain file name");
}

const Json::Object& weight_map(const Json& json, const fs::path& index) {
  const Json* map = json.find("weight_map");
  if (!map || !map->is_object() || map->as_object().empty())
    fail(ErrorKind::bad_file, index.string(),
         ": needs a 'weight_map' object from tensor names to file names");
  return map->as_object();
}

/// File name of each tensor, checked.
std::map<std::string, std::string> shards_by_tensor(const fs::path& index) {
  const Json json = read_json(index, kMaxIndexBytes);
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, file] : weight_map(json, index)) {
    if (!file.is_string())
      fail(ErrorKind::bad_file, index.string(), ": weight_map: the value of ", printable(tensor),
           " must be a file name");
    require_plain_name(file.as_string(), index, tensor);
    shards[tensor] = file.as_string();
  }
  return shards;
}

WeightFiles open_shards(const fs::path& index) {
  const auto shards = shards_by_tensor(index);
  std::set<std::string> names;
  for (const auto& [tensor, shard] : shards) names.insert(shard);
  WeightFiles weights{index, {}};
  std::set<std::pair<std::string, std::string>> held;
  for (const std::string& name : names) {
    weights.files.push_back(SafetensorsFile::open(index.parent_path() / name));
    for (const TensorInfo& info : weights.files.back().tensors()) held.emplace(info.name, name);
  }
  for (const auto& entry : shards)
    if (!held.contains(entry))
      fail(ErrorKind::bad_file, index.string(), ": tensor ", printable(entry.first), " should be in ",
           printable(entry.second), " but is not");
  return weights;
}

/// Weights files in a directory, in the order they are looked for.
std::vector<std::string> weight_candidates(const fs::path& directory) {
  constexpr std::array names{kIndex, kSingle, "model.pt", "pytorch_model.bin.index.json",
                             "pytorch_model.bin"};
  std::vector<std::string> found;
  for (const char* name : names)
    if (present(directory / name)) found.emplace_back(name);
  return found;
}

[[noreturn]] void fail_without_safetensors(const fs::path& directory,
                                           const std::vector<std::string>& candidates) {
  if (candidates.empty())
    fail(ErrorKind::not_found, "'", directory.string(), "' has no weights; it needs ", kSingle, " or ",
         kIndex);
  fail(ErrorKind::unsupported, "'", (directory / candidates.front()).string(),
       "': this version reads safetensors only; convert it there with: python -c \"import torch, "
       "safetensors.torch as s; "
       "s.save_file({k: v.contiguous() for k, v in torch.load('",
       candidates.front(), "', map_location='cpu').items()}, '", kSingle, "')\"");
}

bool is_cuda(const std::string& device) {
  constexpr std::string_view prefix = "cuda:";
  if (device == "cuda") return true;
  return device.starts_with(prefix) && device.size() > prefix.size() &&
         device.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
}

}  // namespace

TensorMap WeightFiles::state_dict() const {
  TensorMap tensors;
  for (const SafetensorsFile& file : files)
    for (const TensorInfo& info : file.tensors())
      if (!tensors.emplace(info.name, file.tensor(info.name)).second)
        fail(ErrorKind::bad_file, file.path().string(), ": tensor ", printable(info.name),
             " stands in another shard too; each must stand once");
  return tensors;
}

Config read_config(const fs::path& directory, std::vector<std::string>* warnings) {
  require_model_directory(directory);
  const fs::path path = directory / "config.json";
  if (!present(path))
    fail(ErrorKind::not_found, "'", directory.string(),
         "' has no config.json, so it is no model directory; it needs config.json and model.safetensors");
  return Config::from_json(read_json(path, kMaxConfigBytes), path.string(), warnings);
}

WeightFiles find_weights(const fs::path& directory, std::vector<std::string>* warnings) {
  const std::vector<std::string> candidates = weight_candidates(directory);
  const bool sharded = !candidates.empty() && candidates.front() == kIndex;
  const bool single = !candidates.empty() && candidates.front() == kSingle;
  if (!sharded && !single) fail_without_safetensors(directory, candidates);
  if (warnings && candidates.size() > 1) {
    std::string others;
    for (size_t i = 1; i < candidates.size(); ++i) others += (i > 1 ? ", " : "") + candidates[i];
    warnings->push_back(concat(directory.string(), ": reads ", candidates.front(), " and ignores ", others,
                               ", which also hold weights"));
  }
  const fs::path path = directory / candidates.front();
  WeightFiles weights = sharded ? open_shards(path) : WeightFiles{path, {SafetensorsFile::open(path)}};
  for (const SafetensorsFile& file : weights.files) check_format_version(file, warnings);
  return weights;
}

std::shared_ptr<Backend> make_backend(const std::string& device, int threads) {
  if (device == "auto" || device == "cpu") return cpu::make_backend({threads, {}});
  if (is_cuda(device))
    fail(ErrorKind::unsupported, "device '", device, "': this build has no CUDA backend; use --device cpu");
  fail(ErrorKind::invalid_argument, "device must be auto, cpu or cuda, not '", device, "'");
}

Model Model::from_pretrained(const fs::path& directory, const LoadOptions& options) {
  Model model;
  const Config config = read_config(directory, &model.warnings);
  model.generation = read_generation_config(directory);
  model.tokenizer = find_tokenizer(directory, config);
  const WeightFiles files = find_weights(directory, &model.warnings);
  model.weights = std::make_shared<const Weights>(config, files.state_dict(),
                                                  make_backend(options.device, options.threads),
                                                  options.dtype, files.source.string(), &model.warnings);
  return model;
}

}  // namespace bdh
