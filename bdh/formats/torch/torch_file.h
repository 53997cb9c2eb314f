// PyTorch files (.pt, .bin): a pickle and raw storages, in a zip archive or, before PyTorch 1.6, one behind
// the other. Files are hostile: the pickle is interpreted, never executed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/json.h"
#include "bdh/base/tensor.h"

namespace bdh {

/// How much of a PyTorch file is read. nested: everything, also of dictionaries of dictionaries that hold no
/// state_dict.
enum class TorchParts : uint8_t { state_dict, everything, nested };

/// What a PyTorch file holds of a model.
struct TorchFile {
  TensorMap tensors;  // names as stored; views into the mapped file where the storage lies there uncompressed
  std::map<std::string, Error> unreadable;  // entries of the state_dict that are no tensors here, and why
  Json values;                          // what stands beside the state_dict, as far as JSON has it: an object
  std::vector<std::string> order = {};  // names of tensors, as they stand in the file
  /// Unless TorchParts::state_dict: the tensors there, by keys and places: "optimizer.state.0.exp_avg".
  TensorMap beside = {};

  /// Reads a state_dict; a dictionary that holds one under one of the names in kStateDictKeys, also in one
  /// another; or a whole module, of which the parameters and buffers are taken and nothing is run. Throws
  /// Error(bad_file) naming the file and the reason; Error(unsupported) for what PyTorch wrote and this
  /// library cannot read; Error(not_found), Error(io).
  static TorchFile open(const std::filesystem::path& path, TorchParts parts = TorchParts::state_dict);
};

struct TorchValue;
using TorchList = std::vector<TorchValue>;
struct TorchTuple {
  TorchList items;
};
using TorchDict = std::vector<std::pair<TorchValue, TorchValue>>;  // keys: whole numbers or text

/// A value to be saved, of kinds that torch.load(weights_only=True) reads.
struct TorchValue {
  using Value = std::variant<std::nullptr_t, bool, int64_t, double, std::string, Tensor, TorchList,
                             TorchTuple, TorchDict>;
  Value value;

  TorchValue() : value(nullptr) {}
  template <class T>
  TorchValue(T of) : value(std::move(of)) {}
  TorchValue(const char* text) : value(std::string(text)) {}
};

/// Writes it as torch.save does. Atomic: see AtomicFile. The same value gives the same bytes. Throws
/// Error(io), Error(invalid_argument) for text that is not UTF-8.
void write_torch_value(const std::filesystem::path& path, const TorchValue& value);

/// Writes a state_dict that torch.load(weights_only=True) reads: an ordered dictionary of contiguous tensors.
/// Atomic: see AtomicFile. The same tensors give the same bytes.
void write_torch_file(const std::filesystem::path& path, const TensorMap& tensors);

}  // namespace bdh
