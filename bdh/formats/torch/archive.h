// The zip archive that torch.save writes: a pickle, and storages beside it.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "bdh/formats/torch/state_dict.h"
#include "bdh/formats/torch/zip_reader.h"

namespace bdh {

class TorchArchive {
 public:
  /// `owner` keeps `bytes` alive. Throws as ZipReader; Error(unsupported) for TorchScript
  /// archives, Error(bad_file) for one without a pickle.
  TorchArchive(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, std::string source);

  std::span<const std::byte> pickle() const { return pickle_; }
  /// In place where it is stored uncompressed, unpacked once where not. Throws Error(bad_file).
  TorchStorage storage(std::string_view key);

 private:
  template <class... Parts>
  [[noreturn]] void bad(const Parts&... reason) const;
  std::string find_folder() const;
  void check_byte_order();
  void read_pickle_entry();

  std::string source_;
  std::shared_ptr<const void> owner_;
  ZipReader zip_;
  std::string folder_;  // all entries lie in it: "archive/"
  bool big_endian_ = false;
  std::shared_ptr<const std::byte> pickle_memory_;
  std::span<const std::byte> pickle_;
  std::map<const ZipEntry*, std::shared_ptr<const std::byte>> unpacked_;
};

}  // namespace bdh
