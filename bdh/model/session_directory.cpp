// Files of sessions. That a file was used is its time of access; its time of change stays that of its
// writing.
#include "bdh/model/session_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
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

int64_t nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

std::optional<UsedFile> used_file(const fs::path& path) {
  struct stat found {};
  if (::stat(path.c_str(), &found) != 0) return {};
  const auto bytes = static_cast<uint64_t>(found.st_size);
  return UsedFile{nanoseconds(found.st_atim), {found.st_ino, bytes, nanoseconds(found.st_mtim)}, path};
}

/// A name that no other thread or process has.
std::string part_of(const std::string& name) {
  static std::atomic<uint64_t> count = 0;
  return concat(".", name, ".", ::getpid(), ".", ++count, ".part");
}

}  // namespace

std::vector<UsedFile> files_by_use(const fs::path& directory, const char* extension) {
  std::vector<UsedFile> found;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().extension() != extension) continue;
    if (const std::optional<UsedFile> file = used_file(entry->path())) found.push_back(*file);
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

std::optional<SessionDirectory::Identity> SessionDirectory::identity(const std::string& name) const {
  const std::optional<UsedFile> found = used_file(file(name));
  return found ? std::optional(found->identity) : std::nullopt;
}

// The identity is taken before the file has the name, under which another process may put its own at once.
std::optional<SessionDirectory::Identity> SessionDirectory::write(const std::string& name,
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
  const fs::path part = directory_ / part_of(name);
  write_session(part, saved);
  const std::optional<UsedFile> written = used_file(part);
  std::error_code error;
  fs::rename(part, file(name), error);
  if (!error && written) return written->identity;
  drop(part);
  fail(ErrorKind::io, "cannot write ", file(name).string(), ": ", error.message());
}

void SessionDirectory::touch(const std::string& name) const {
  const timespec times[] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
  ::utimensat(AT_FDCWD, file(name).c_str(), times, 0);
}

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
