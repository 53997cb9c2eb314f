// What a model directory says beside its weights: training_args.json, metadata.json, generation_config.json.
#include "bdh/pretrained/remarks.h"

#include <algorithm>
#include <array>
#include <string_view>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/model/horizon.h"
#include "bdh/pretrained/file_names.h"
#include "bdh/pretrained/metadata.h"
#include "bdh/pretrained/model_files.h"
#include "bdh/pretrained/weight_files.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxGenerationBytes = 1'000'000;
constexpr size_t kMaxTrainingArgsBytes = 16'000'000;
constexpr size_t kMaxTrainingFileBytes = 64'000'000;
constexpr int64_t kLargestBlock = int64_t{1} << 40;
constexpr std::array<std::string_view, 3> kSpecialTokens{"bos_token_id", "eos_token_id", "pad_token_id"};

bool present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// The file's JSON; null when there is none.
Json read_optional_json(const fs::path& path, size_t max_bytes) {
  if (!present(path)) return {};
  return Json::parse(read_text(path, max_bytes), path.string());
}

GenerationConfig special_tokens_of(const Config& config, const std::string& source) {
  Json tokens(Json::Object{});
  for (const auto& [key, value] : config.extra) {
    if (std::find(kSpecialTokens.begin(), kSpecialTokens.end(), key) != kSpecialTokens.end())
      tokens.set(key, value);
  }
  return GenerationConfig::from_json(tokens, source);
}

std::optional<int64_t> block_in(const Json* json) {
  if (!json || !json->is_integer()) return {};
  const double block = json->as_number();
  if (!(block >= 1 && block <= static_cast<double>(kLargestBlock))) return {};
  return json->as_integer();
}

}  // namespace

std::optional<int64_t> Remarks::block_size(const Config& config) const {
  const Json extra(config.extra);
  for (const Json* place : {&training_args, &details, &extra}) {
    if (const auto block = block_in(place->find("block_size"))) return block;
  }
  return {};
}

Remarks read_remarks(const fs::path& directory, std::vector<std::string>* warnings) {
  Remarks remarks;
  try {
    remarks.training_args = read_optional_json(directory / kTrainingArgsFile, kMaxTrainingArgsBytes);
    for (const char* name : kTrainingFiles) {
      if (present(directory / name))
        remarks.training_files[name] = read_text(directory / name, kMaxTrainingFileBytes);
    }
    if (!present(directory / kMetadataFile)) return remarks;
    ModelMetadata metadata = read_model_metadata(directory);
    if (!metadata.details.empty()) remarks.details = std::move(metadata.details);
    if (metadata.format_version.is_null()) return remarks;
    check_format_version(metadata.format_version.dump(), (directory / kMetadataFile).string(), warnings);
  } catch (const Error& error) {
    warnings->push_back(concat(error.what(), "; ignored"));
  }
  return remarks;
}

GenerationConfig read_generation_config(const Config& config, const fs::path& directory) {
  const fs::path path = directory / kGenerationFile;
  const Json json = read_optional_json(path, kMaxGenerationBytes);
  return generation_config_of(config, json, (json.is_null() ? directory / kConfigFile : path).string());
}

GenerationConfig generation_config_of(const Config& config, const Json& json, const std::string& source) {
  if (json.is_null()) return special_tokens_of(config, source);
  GenerationConfig generation = GenerationConfig::from_json(json, source);
  const size_t horizons = generation.horizon.size();
  if (horizons > 1 && static_cast<int64_t>(horizons) != config.n_head) {
    fail(ErrorKind::bad_file, source, ": horizon: ", horizons, " numbers for a model of ", config.n_head,
         " heads; give one, or one for each head");
  }
  return generation;
}

void write_horizon(const fs::path& directory, const std::vector<float>& horizon) {
  const fs::path path = model_folder(directory) / kGenerationFile;
  Json json = read_optional_json(path, kMaxGenerationBytes);
  if (json.is_null()) {
    std::vector<std::string> ignored;
    json = read_generation_config(read_config(directory, &ignored), model_folder(directory)).to_json();
  }
  Json::Object members = json.as_object();
  std::erase_if(members, [](const Json::Member& member) { return member.first == "horizon"; });
  if (!horizon.empty()) members.emplace_back("horizon", horizon_to_json(horizon));
  AtomicFile file(path);
  file.write(Json(std::move(members)).dump(2, NonFinite::python) + "\n");
  file.commit();
}

}  // namespace bdh
