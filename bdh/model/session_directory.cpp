// Files of sessions. That a file was used is its time of access; its time of change stays that of its
// writing.
#include "bdh/model/session_directory.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/model/session_file.h"

namespace bdh {

namespace fs = std::filesystem;

namespace {

constexpr const char* kExtension = ".session";

bool drop(const fs::path& path) {
  std::error_code ignored;
  return fs::remove(path, ignored);
}

}  // namespace

std::vector<UsedFile> files_by_use(const fs::path& directory, const char* extension) {
  std::vector<UsedFile> found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() != extension) continue;
    const FileIdentity identity = identity_of(entry->path());
    if (identity != FileIdentity{}) found.push_back({last_read(entry->path()), identity, entry->path()});
  }
  std::sort(found.begin(), found.end(), [](const UsedFile& a, const UsedFile& b) { return a.used < b.used; });
  return found;
}

SessionDirectory::SessionDirectory(fs::path directory, uint64_t max_bytes)
    : directory_(std::move(directory)), max_bytes_(max_bytes) {
  std::error_code error;
  fs::create_directories(directory_, error);
  if (!fs::is_directory(directory_)) {
    fail(ErrorKind::io, "cannot keep sessions in ", directory_.string(), ": ",
         error ? error.message() : "it is no directory", "; name another directory");
  }
}

std::optional<FileIdentity> SessionDirectory::write(const std::string& name,
                                                    const SavedSession& saved) const {
  const uint64_t bytes = bytes_of(saved.state);
  if (bytes > max_bytes_) return {};
  const std::vector<UsedFile> all = files_by_use(directory_, kExtension);
  uint64_t kept = bytes;
  for (const UsedFile& used : all) kept += used.identity.bytes;
  for (const UsedFile& used : all) {
    if (kept <= max_bytes_) break;
    drop(used.path);
    kept -= used.identity.bytes;
  }
  return write_session(file(name), saved);
}

void SessionDirectory::touch(const std::string& name) const { note_read(file(name)); }

std::optional<SavedSession> SessionDirectory::read(const std::string& name) const {
  if (!contains(name)) return {};
  SavedSession saved = read_session(file(name));
  touch(name);
  return saved;
}

bool SessionDirectory::remove(const std::string& name) const { return drop(file(name)); }

std::vector<SessionDirectory::Entry> SessionDirectory::list() const {
  std::vector<Entry> entries;
  for (const UsedFile& used : files_by_use(directory_, kExtension))
    entries.push_back({used.path.stem().string(), used.identity});
  return entries;
}

}  // namespace bdh
