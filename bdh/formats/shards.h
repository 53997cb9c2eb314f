// Weights split over several files, and the index that says which tensor is where, as Hugging Face's packages
// write them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/json.h"

namespace bdh {

struct TensorSize {
  std::string name;
  uint64_t bytes = 0;
};

struct Shard {
  std::string file;
  std::vector<std::string> tensors;
  uint64_t bytes = 0;  // of its tensors
};

/// Splits whole tensors, in the order given, into shards of at most `max_bytes`; a larger tensor gets a shard
/// of its own, which stands before the one that was being filled. One shard is named "model.safetensors",
/// several "model-00001-of-00003.safetensors", for stem "model" and extension ".safetensors".
std::vector<Shard> split_into_shards(const std::vector<TensorSize>& tensors, uint64_t max_bytes,
                                     const std::string& stem, const std::string& extension);

/// The index of several shards: metadata.total_size in bytes, metadata.total_parameters, weight_map.
Json shard_index(const std::vector<Shard>& shards, int64_t parameters);

/// File name of each tensor. Throws Error(bad_file) for an index that is none, and for names that are no
/// plain file names: a shard must lie beside its index.
std::map<std::string, std::string> read_shard_index(const std::filesystem::path& index);

/// Bytes of "500MB", "2.5 GB", "1GiB", "5000": decimal units as the reference package counts them, binary
/// ones with an i, in any case; a fraction of a byte is dropped. Throws Error(invalid_argument).
uint64_t parse_size(std::string_view text);

}  // namespace bdh
