// A zip archive in memory, read through minizip. Archives are hostile: names, places and sizes are checked
// before an entry's byte is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bdh {

/// How many bytes a file of that size may grow to when it is unpacked: far more than weights ever do, far
/// less than a bomb.
uint64_t largest_unpacked(uint64_t file_bytes);

struct ZipEntry {
  std::string name;
  uint64_t offset = 0;        // of its data in the archive
  uint64_t stored_bytes = 0;  // of its data in the archive
  uint64_t bytes = 0;         // unpacked, as the directory claims
  uint64_t directory_position = 0;
  uint64_t number = 0;
  bool compressed = false;
};

class ZipReader {
 public:
  /// Checks the whole directory. `bytes` must outlive the reader; `source` names them in errors. Throws
  /// Error(bad_file) for damaged directories, names that leave the archive or stand twice, entries that lie
  /// outside it or over one another; Error(unsupported) for encryption and methods other than stored and
  /// deflated.
  ZipReader(std::span<const std::byte> bytes, std::string source);

  /// Sorted by name.
  const std::vector<ZipEntry>& entries() const { return entries_; }
  /// Nothing: nullptr.
  const ZipEntry* find(std::string_view name) const;

  /// The bytes of an entry that is not compressed, in place.
  std::span<const std::byte> view(const ZipEntry& entry) const;
  /// A copy of the entry, unpacked, its checksum verified. What all entries unpack to is bounded by
  /// largest_unpacked. Throws Error(bad_file), Error(out_of_memory).
  std::shared_ptr<const std::byte> unpack(const ZipEntry& entry);

 private:
  struct Window {
    std::span<const std::byte> bytes;
    uint64_t at = 0;
    bool ended = false;  // a read went past the end
  };
  struct Callbacks;
  struct Closer {
    void operator()(void* archive) const;
  };

  template <class... Parts>
  [[noreturn]] void bad(const Parts&... reason) const;
  template <class... Parts>
  [[noreturn]] void bad_entry(const ZipEntry& entry, const Parts&... reason) const;
  void read_directory();
  ZipEntry read_entry(std::string& buffer);
  void read_places(ZipEntry& entry, uint64_t name_bytes, uint64_t extra_bytes) const;
  void widen(ZipEntry& entry, uint64_t& header, std::string_view extra) const;
  void check_entry(const ZipEntry& entry, unsigned long method, unsigned long flags) const;
  uint64_t data_offset(const ZipEntry& entry, uint64_t header) const;
  void sort_by_name();
  void check_overlaps() const;
  void open_entry(const ZipEntry& entry);
  void read_opened(const ZipEntry& entry, std::byte* out);

  std::unique_ptr<Window> window_;
  std::string source_;
  std::unique_ptr<void, Closer> archive_;
  std::vector<ZipEntry> entries_;
  uint64_t unpackable_;  // bytes that may still be unpacked
};

}  // namespace bdh
