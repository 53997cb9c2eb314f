// SessionDirectory: kept sessions as files of one directory, bounded; any number of processes may share it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "bdh/base/file.h"
#include "bdh/model/session.h"

namespace bdh {

/// NAME.session, as session_file.h says. Names are the caller's, fit for a file. Any thread may call.
class SessionDirectory {
 public:
  /// Makes the directory. At most max_bytes are kept there, those used last. Throws Error(io) where there can
  /// be no such directory.
  SessionDirectory(std::filesystem::path directory, uint64_t max_bytes);

  const std::filesystem::path& path() const { return directory_; }
  std::filesystem::path file(const std::string& name) const { return directory_ / (name + ".session"); }
  FileIdentity identity(const std::string& name) const { return identity_of(file(name)); }
  bool contains(const std::string& name) const { return identity(name) != FileIdentity{}; }
  /// Drops what was used longest ago to make room. A session larger than max_bytes is not written: nothing.
  /// Throws Error(io).
  std::optional<FileIdentity> write(const std::string& name, const SavedSession& saved) const;
  /// Nothing where there is none. Throws as read_session.
  std::optional<SavedSession> read(const std::string& name) const;
  /// Notes that it was used, as read does.
  void touch(const std::string& name) const;
  /// Whether there was one.
  bool remove(const std::string& name) const;

  struct Entry {
    std::string name;
    FileIdentity identity;
  };
  /// Those used longest ago first.
  std::vector<Entry> list() const;

 private:
  std::filesystem::path directory_;
  uint64_t max_bytes_;
};

/// The files of a directory with that extension, those used longest ago first. What other processes remove
/// meanwhile is left out.
struct UsedFile {
  int64_t used;  // nanoseconds since 1970
  FileIdentity identity;
  std::filesystem::path path;
};
std::vector<UsedFile> files_by_use(const std::filesystem::path& directory, const char* extension);

}  // namespace bdh
