// Files of sessions; a file's time is that of its last use.
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

void touch(const fs::path& path) {
  std::error_code ignored;
  fs::last_write_time(path, fs::file_time_type::clock::now(), ignored);
}

}  // namespace

std::vector<UsedFile> files_by_use(const fs::path& directory, const char* extension) {
  std::vector<UsedFile> found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() != extension) continue;
    std::error_code gone;
    const UsedFile file{entry->last_write_time(gone), entry->file_size(gone), entry->path()};
    if (!gone) found.push_back(file);
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

bool SessionDirectory::contains(const std::string& name) const {
  std::error_code ignored;
  return fs::exists(file(name), ignored);
}

bool SessionDirectory::write(const std::string& name, const SavedSession& saved) const {
  const uint64_t bytes = bytes_of(saved.state);
  if (bytes > max_bytes_) return false;
  const std::vector<UsedFile> all = files_by_use(directory_, kExtension);
  uint64_t kept = bytes;
  for (const UsedFile& used : all) kept += used.bytes;
  for (const UsedFile& used : all) {
    if (kept <= max_bytes_) break;
    drop(used.path);
    kept -= used.bytes;
  }
  write_session(file(name), saved);
  return true;
}

std::optional<SavedSession> SessionDirectory::read(const std::string& name) const {
  if (!contains(name)) return {};
  SavedSession saved = read_session(file(name));
  touch(file(name));
  return saved;
}

bool SessionDirectory::remove(const std::string& name) const { return drop(file(name)); }

std::vector<SessionDirectory::Entry> SessionDirectory::list() const {
  std::vector<Entry> entries;
  for (const UsedFile& used : files_by_use(directory_, kExtension))
    entries.push_back({used.path.stem().string(), used.bytes});
  return entries;
}

}  // namespace bdh
