// Files: mapped for reading, written whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace bdh {

/// A read-only memory mapping of a whole regular file. Pages are read when touched.
class MappedFile {
 public:
  /// Throws Error(not_found) when there is none, Error(io) when it cannot be read, Error(invalid_argument)
  /// for a directory, pipe or device. An empty file maps to an empty span.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);

  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  MappedFile(std::filesystem::path path, std::span<const std::byte> bytes);
  std::filesystem::path path_;
  std::span<const std::byte> bytes_;
};

/// The whole file as text. Throws as MappedFile::open, and Error(bad_file) when it is longer than max_bytes.
std::string read_text(const std::filesystem::path& path, size_t max_bytes);

/// Puts a directory's entries on disk, so that renames in it survive a crash. File systems that cannot sync
/// directories are forgiven. Throws Error(io).
void sync_directory(const std::filesystem::path& directory);

/// Gives a file another name in its own directory, in place of what has that name: whole or not at all. False
/// where the file system has no such links, or does not allow one.
bool link_file(const std::filesystem::path& file, const std::filesystem::path& name);

/// What changes when another file takes a file's place; names of one content have the same.
struct FileIdentity {
  uint64_t device = 0, inode = 0, bytes = 0;
  int64_t written = 0;  // nanoseconds since 1970
  bool operator==(const FileIdentity&) const = default;
  bool operator<(const FileIdentity& other) const;
};
/// All zero where there is no such file.
FileIdentity identity_of(const std::filesystem::path& path);

/// When the file was last read, nanoseconds since 1970; 0 where there is no such file.
int64_t last_read(const std::filesystem::path& path);
/// Notes that the file was read, and leaves its identity.
void note_read(const std::filesystem::path& path);

/// Removes what killed programs left of AtomicFiles in the directory.
void remove_abandoned_files(const std::filesystem::path& directory);

/// A file that appears complete or not at all: written under a temporary name in the same directory, synced,
/// renamed. Destroyed without commit(), it leaves nothing behind; what a killed program left, the next
/// AtomicFile in that directory removes. Every failure is Error(io) naming the file and the reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  /// Replaces bytes written before; the next write() goes on at the end.
  void overwrite(uint64_t offset, std::span<const std::byte> bytes);
  /// Brings what was written to the disk, still under the temporary name: a disk that is full says so here.
  void sync();
  /// Syncs the file, renames it into place and syncs the directory. Returns the identity of what it wrote,
  /// whatever has the name by then.
  FileIdentity commit();

 private:
  bool open_temporary(unsigned mode);

  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

/// A file that grows piece by piece, made where there is none: what was written stays, whatever becomes of
/// the program. Every failure is Error(io) naming the file and the reason.
class AppendFile {
 public:
  explicit AppendFile(std::filesystem::path path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  /// At the end, handed to the system before it returns.
  void write(std::string_view text);

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

}  // namespace bdh
