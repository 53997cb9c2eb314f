// metadata.json: what wrote a model directory, when, the hashes of its weights files, and what the user adds.
#include "bdh/pretrained/metadata.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/printable.h"
#include "bdh/base/sha256.h"
#include "bdh/pretrained/file_names.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxMetadataBytes = 16'000'000;
constexpr std::array<std::string_view, 4> kOwnFields{"format_version", "bdh_version", "created", "weights"};

bool is_own(std::string_view field) {
  return std::find(kOwnFields.begin(), kOwnFields.end(), field) != kOwnFields.end();
}

const Json& required(const Json& entry, std::string_view key) {
  const Json* value = entry.find(key);
  if (!value) fail(ErrorKind::bad_file, "each of 'weights' needs '", key, "'");
  return *value;
}

WeightsFileHash read_hash(const Json& entry) {
  const int64_t bytes = required(entry, "bytes").as_integer();
  if (bytes < 0) fail(ErrorKind::bad_file, "'bytes' must not be negative");
  return {required(entry, "file").as_string(), static_cast<uint64_t>(bytes),
          required(entry, "sha256").as_string()};
}

void read_own(ModelMetadata& metadata, const Json::Member& member) {
  const auto& [key, value] = member;
  if (key == "format_version") metadata.format_version = value;
  if (key == "bdh_version") metadata.bdh_version = value.as_string();
  if (key == "created") metadata.created = value.as_string();
  if (key != "weights") return;
  for (const Json& entry : value.as_array()) metadata.weights.push_back(read_hash(entry));
}

Json hash_json(const WeightsFileHash& hash) {
  Json json;
  json.set("file", hash.file);
  json.set("bytes", hash.bytes);
  json.set("sha256", hash.sha256);
  return json;
}

void verify_file(const fs::path& file, const ModelMetadata& metadata) {
  const std::string name = file.filename().string();
  const auto told = std::find_if(metadata.weights.begin(), metadata.weights.end(),
                                 [&](const WeightsFileHash& hash) { return hash.file == name; });
  if (told == metadata.weights.end()) {
    fail(ErrorKind::bad_file, file.string(), ": ", kMetadataFile,
         " has no sha256 of it; load it without verifying, or save the model again");
  }
  const size_t bytes = MappedFile::open(file)->bytes().size();
  if (bytes != told->bytes) {
    fail(ErrorKind::bad_file, file.string(), ": has ", bytes, " bytes, but ", kMetadataFile, " says ",
         told->bytes, "; get the file again");
  }
  const std::string found = sha256_of_file(file);
  if (found != told->sha256) {
    fail(ErrorKind::bad_file, file.string(), ": its sha256 is ", found, ", but ", kMetadataFile, " says ",
         printable(told->sha256), "; get the file again");
  }
}

}  // namespace

ModelMetadata ModelMetadata::from_json(const Json& json, std::string_view source) {
  if (!json.is_object()) fail(ErrorKind::bad_file, source, ": must hold a JSON object");
  ModelMetadata metadata;
  for (const Json::Member& member : json.as_object()) {
    if (!is_own(member.first)) {
      metadata.details.push_back(member);
      continue;
    }
    try {
      read_own(metadata, member);
    } catch (const Error& error) {
      fail(ErrorKind::bad_file, source, ": ", member.first, ": ", error.what());
    }
  }
  return metadata;
}

Json ModelMetadata::to_json() const {
  Json::Array hashes;
  for (const WeightsFileHash& hash : weights) hashes.push_back(hash_json(hash));
  Json json;
  json.set("format_version", format_version);
  json.set("bdh_version", bdh_version);
  json.set("created", created);
  json.set("weights", std::move(hashes));
  for (const auto& [key, value] : details) json.set(key, value);
  return json;
}

ModelMetadata read_model_metadata(const fs::path& directory) {
  const fs::path path = directory / kMetadataFile;
  return ModelMetadata::from_json(Json::parse(read_text(path, kMaxMetadataBytes), path.string()),
                                  path.string());
}

void require_details(const Json& details) {
  if (details.is_null()) return;
  if (!details.is_object()) {
    fail(ErrorKind::invalid_argument, "details for ", kMetadataFile, " must be a JSON object");
  }
  for (const auto& [key, value] : details.as_object()) {
    if (!is_own(key)) continue;
    fail(ErrorKind::invalid_argument, "details for ", kMetadataFile, ": '", key,
         "' is written by bdh itself; choose another name");
  }
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

void verify_weights(const fs::path& directory, const std::vector<fs::path>& files) {
  const ModelMetadata metadata = read_model_metadata(directory);
  for (const fs::path& file : files) verify_file(file, metadata);
}

}  // namespace bdh
