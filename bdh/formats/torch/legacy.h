// The format of PyTorch before 1.6, and of _use_new_zipfile_serialization=False since: four pickles (a magic
// number, a protocol, facts about the machine, and what was saved), a pickle of the storages' keys, and the
// storages themselves, each behind its length.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "bdh/formats/torch/pickle.h"
#include "bdh/formats/torch/state_dict.h"

namespace bdh {

class LegacyTorchFile {
 public:
  /// Whether bytes begin as such a file.
  static bool recognise(std::string_view bytes);

  /// `bytes` must outlive the file; `owner` keeps them alive, `source` names them in errors. Throws
  /// Error(bad_file), Error(unsupported).
  LegacyTorchFile(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, std::string source);

  /// Of what was saved.
  const Pickle& pickle() const { return pickle_; }
  /// The storage of that key; a view. Throws Error(bad_file) when there is none.
  TorchStorage storage(std::string_view key) const;

 private:
  template <class... Parts>
  [[noreturn]] void bad(const Parts&... reason) const;
  Pickle next_pickle();
  void read_header();
  void read_storages(const Pickle& keys);
  std::map<std::string, uint64_t, std::less<>> element_sizes() const;

  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;
  std::string source_;
  size_t at_ = 0;
  Pickle pickle_;
  std::map<std::string, std::span<const std::byte>, std::less<>> storages_;
};

}  // namespace bdh
