// The safetensors format: u64 little-endian header length, a JSON header, then the tensors' bytes without
// holes (huggingface.co/docs/safetensors). Files are hostile: every rule is checked before a tensor's byte is
// used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/tensor.h"

namespace bdh {

/// A file's `__metadata__`.
using Metadata = std::map<std::string, std::string>;

/// What the header says of one tensor.
struct TensorInfo {
  std::string name;
  std::string type;            // the dtype as it stands there: "F32", "U16", "C64", or one of a later version
  std::optional<DType> dtype;  // none for types that this library does not compute with
  Shape shape;
  uint64_t begin = 0;  // byte offsets into the data section: [begin, end)
  uint64_t end = 0;

  /// Of a type and rank that this library has.
  bool usable() const { return dtype && shape.size() <= kMaxRank; }
  static constexpr size_t kMaxRank = 64;
};

/// An open file: mapped, checked, read lazily. A value; tensors taken from it keep its bytes alive.
class SafetensorsFile {
 public:
  /// Maps the file and checks the whole header. Throws Error(bad_file) naming file, tensor and reason,
  /// Error(not_found), Error(io).
  static SafetensorsFile open(const std::filesystem::path& path);
  /// The same for a file in memory, which `owner` holds; `name` stands for its path.
  static SafetensorsFile of_bytes(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                  const std::string& name);

  const std::filesystem::path& path() const { return path_; }
  /// In the order of their bytes in the file.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const Metadata& metadata() const { return metadata_; }
  /// Where the data section starts: file offset of a tensor = data_offset() + begin.
  uint64_t data_offset() const { return data_offset_; }

  /// A view into the mapping, no copy. Throws Error(not_found) naming file and tensor, Error(unsupported) for
  /// a tensor whose type or rank this library has not.
  Tensor tensor(std::string_view name) const;
  /// Why a tensor that is not usable is not: Error(unsupported).
  Error refusal(const TensorInfo& info) const;

 private:
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;  // of the bytes
  bool mapped_ = false;
  std::vector<TensorInfo> tensors_;
  std::vector<uint32_t> by_name_;  // positions in tensors_
  Metadata metadata_;
  uint64_t data_offset_ = 0;
};

/// True when the file starts as a safetensors file does: a plausible header length, then '{'. Throws as
/// MappedFile::open.
bool is_safetensors(const std::filesystem::path& path);

/// What the header says of the file's tensors, in the order of their bytes; and its metadata. Both read the
/// header alone and throw as SafetensorsFile::open.
std::vector<TensorInfo> list_tensors(const std::filesystem::path& path);
Metadata read_metadata(const std::filesystem::path& path);

/// What the reference package pads a header to.
inline constexpr size_t kSafetensorsAlignment = 8;

/// Writes the tensors, widest elements first and by name within a type (as the reference package orders
/// them), header padded with spaces to a multiple of 8. Tensors are made contiguous as needed. Atomic: see
/// AtomicFile, whose identity it returns. `written` is told the bytes of each piece of a tensor, and may
/// throw to stop. With an `alignment` above 8, a power of two, the data begins at a multiple of it, and each
/// tensor at a multiple of the largest power of two up to it that divides the tensor's bytes: the order is by
/// that first. Throws Error(invalid_argument) for what no reader would take back: names that are not UTF-8.
FileIdentity write_safetensors(const std::filesystem::path& path, const TensorMap& tensors,
                               const Metadata& metadata, const std::function<void(size_t)>& written = {},
                               size_t alignment = kSafetensorsAlignment);
/// The same as bytes in memory.
std::vector<std::byte> safetensors_bytes(const TensorMap& tensors, const Metadata& metadata,
                                         size_t alignment = kSafetensorsAlignment);

}  // namespace bdh
