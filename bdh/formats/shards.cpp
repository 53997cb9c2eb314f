// Weights split over several files, and their index.
#include "bdh/formats/shards.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/printable.h"

namespace bdh {
namespace {

constexpr size_t kMaxIndexBytes = 64'000'000;

std::string numbered(size_t number, size_t count) {
  char text[64];
  std::snprintf(text, sizeof text, "-%05zu-of-%05zu", number, count);
  return text;
}

const Json::Object& weight_map(const Json& json, const std::filesystem::path& index) {
  const Json* map = json.find("weight_map");
  if (!map || !map->is_object() || map->as_object().empty()) {
    fail(ErrorKind::bad_file, index.string(),
         ": needs a 'weight_map' object from tensor names to file names");
  }
  return map->as_object();
}

void require_plain_name(const std::string& name, const std::filesystem::path& index,
                        const std::string& tensor) {
  const bool plain = !name.empty() && name != "." && name != ".." &&
                     name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
  if (plain) return;
  fail(ErrorKind::bad_file, index.string(), ": weight_map: tensor ", printable(tensor), " names the file ",
       printable(name), ", which is not a plain file name");
}

struct Unit {
  std::string_view name;
  double bytes;
};
constexpr std::array kUnits{
    Unit{"", 1},         Unit{"b", 1},    Unit{"kb", 1e3},     Unit{"kib", 0x1p10}, Unit{"mb", 1e6},
    Unit{"mib", 0x1p20}, Unit{"gb", 1e9}, Unit{"gib", 0x1p30}, Unit{"tb", 1e12},    Unit{"tib", 0x1p40},
};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

double bytes_of_unit(std::string_view unit) {
  std::string lower(unit);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const auto found = std::find_if(kUnits.begin(), kUnits.end(),
                                  [&](const Unit& candidate) { return candidate.name == lower; });
  return found == kUnits.end() ? std::nan("") : found->bytes;
}

}  // namespace

std::vector<Shard> split_into_shards(const std::vector<TensorSize>& tensors, uint64_t max_bytes,
                                     const std::string& stem, const std::string& extension) {
  std::vector<Shard> shards;
  Shard filling;
  for (const TensorSize& tensor : tensors) {
    if (tensor.bytes > max_bytes) {
      shards.push_back({"", {tensor.name}, tensor.bytes});
      continue;
    }
    if (tensor.bytes > max_bytes - filling.bytes) shards.push_back(std::exchange(filling, {}));
    filling.tensors.push_back(tensor.name);
    filling.bytes += tensor.bytes;
  }
  if (!filling.tensors.empty()) shards.push_back(std::move(filling));
  const size_t count = shards.size();
  for (size_t i = 0; i < count; ++i) {
    shards[i].file = concat(stem, count == 1 ? "" : numbered(i + 1, count), extension);
  }
  return shards;
}

Json shard_index(const std::vector<Shard>& shards, int64_t parameters) {
  uint64_t bytes = 0;
  Json::Object map;
  for (const Shard& shard : shards) {
    bytes += shard.bytes;
    for (const std::string& tensor : shard.tensors) map.emplace_back(tensor, shard.file);
  }
  Json metadata;
  metadata.set("total_parameters", parameters);
  metadata.set("total_size", bytes);
  Json index;
  index.set("metadata", std::move(metadata));
  index.set("weight_map", std::move(map));
  return index;
}

std::map<std::string, std::string> read_shard_index(const std::filesystem::path& index) {
  const Json json = Json::parse(read_text(index, kMaxIndexBytes), index.string());
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : weight_map(json, index)) {
    if (!file.is_string()) {
      fail(ErrorKind::bad_file, index.string(), ": weight_map: the value of ", printable(tensor),
           " must be a file name");
    }
    require_plain_name(file.as_string(), index, tensor);
    files[tensor] = file.as_string();
  }
  return files;
}

uint64_t parse_size(std::string_view text) {
  const std::string_view size = trimmed(text);
  double number = 0;
  const auto [end, error] = std::from_chars(size.data(), size.data() + size.size(), number);
  const std::string_view unit(end, static_cast<size_t>(size.data() + size.size() - end));
  const double bytes = number * bytes_of_unit(trimmed(unit));
  if (error != std::errc() || !(bytes >= 1 && bytes < 0x1p63)) {
    fail(ErrorKind::invalid_argument, "size ", printable(text),
         " is not understood; write it as 500MB, 2GB, 1GiB or a number of bytes");
  }
  return static_cast<uint64_t>(bytes);
}

}  // namespace bdh
