// DirectoryUpdate: how a model directory changes from one model to another.
//
// The subdirectory is named .bdh-save-XXXXXX while it is written; the old model stands. Once all is in it and
// on disk, with a list of the new model's files, it becomes .bdh-save-complete. Then config.json goes, the
// old model's other files go, the new ones are moved up, config.json last. Each step can be repeated, so that
// whoever comes next goes on where a killed update stopped.
#include "bdh/pretrained/directory_update.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/base/lines.h"
#include "bdh/pretrained/file_names.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPrefix = ".bdh-save-";
constexpr const char* kComplete = ".bdh-save-complete";
constexpr const char* kListFile = ".files";  // a name a line
constexpr size_t kMaxListBytes = 1'000'000;

[[noreturn]] void fail_change(const fs::path& path, const std::error_code& error) {
  fail(ErrorKind::io, "cannot change '", path.string(), "': ", error.message(),
       "; choose a directory you may write to");
}

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(path, ignored));
}

// A link in the place of the subdirectory could lead anywhere.
bool is_real_directory(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(fs::symlink_status(path, ignored));
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::error_code error;
  std::vector<std::string> names;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) fail_change(directory, error);
  return names;
}

void remove_file(const fs::path& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail_change(path, {errno, std::generic_category()});
}

void move(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  if (error) fail_change(to, error);
}

void write_list(const fs::path& staging) {
  std::string list;
  for (const std::string& name : names_in(staging)) list += name + "\n";
  AtomicFile file(staging / kListFile);
  file.write(list);
  file.commit();
}

/// The new model's files. Only plain names: the list could be somebody else's.
std::set<std::string> read_list(const fs::path& staging) {
  std::set<std::string> names;
  const std::string list = read_text(staging / kListFile, kMaxListBytes);
  for (std::string_view rest = list; !rest.empty();) {
    const std::string_view name = next_line(rest);
    if (!name.empty() && name[0] != '.' && name.find('/') == name.npos) names.emplace(name);
  }
  return names;
}

// The files' bytes are on disk before; what happens here reaches it in this order, which journals keep, so
// that nothing needs to wait for the disk between the first step and the last.
void replace_files(const fs::path& staging, const fs::path& directory) {
  const std::set<std::string> names = read_list(staging);
  remove_file(directory / kConfigFile);
  for (const std::string& name : names_in(directory)) {
    if (is_model_file(name) && !names.contains(name)) remove_file(directory / name);
  }
  for (const std::string& name : names) {
    if (name != kConfigFile && is_there(staging / name)) move(staging / name, directory / name);
  }
  move(staging / kConfigFile, directory / kConfigFile);
  sync_directory(directory);
}

// Goes on from wherever an update has come to after its files were complete.
void complete_update(const fs::path& directory) {
  const fs::path staging = directory / kComplete;
  if (!is_real_directory(staging)) return;
  if (is_there(staging / kConfigFile) && is_there(staging / kListFile)) replace_files(staging, directory);
  std::error_code ignored;
  fs::remove_all(staging, ignored);
}

void remove_abandoned(const fs::path& directory) {
  std::error_code ignored;
  for (const std::string& name : names_in(directory)) {
    if (name.starts_with(kPrefix) && is_real_directory(directory / name)) {
      fs::remove_all(directory / name, ignored);
    }
  }
}

bool make_directory(const fs::path& directory) {
  std::error_code error;
  const fs::file_status status = fs::status(directory, error);
  if (fs::exists(status) && !fs::is_directory(status)) {
    fail(ErrorKind::invalid_argument, "'", directory.string(),
         "' is a file; give the directory that the model is to be saved in");
  }
  const bool made = fs::create_directories(directory, error);
  if (error) {
    fail(ErrorKind::io, "cannot make directory '", directory.string(), "': ", error.message(),
         "; choose a directory you may write to");
  }
  return made;
}

// The lock goes with the process. File systems without locks on directories do without it.
int lock_directory(const fs::path& directory, bool* locked) {
  const int descriptor = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) fail_change(directory, {errno, std::generic_category()});
  *locked = ::flock(descriptor, LOCK_EX | LOCK_NB) == 0;
  if (*locked || errno != EWOULDBLOCK) return descriptor;
  ::close(descriptor);
  fail(ErrorKind::io, "another save into '", directory.string(), "' is under way; wait until it is done");
}

fs::path make_staging(const fs::path& directory) {
  std::string pattern = (directory / concat(kPrefix, "XXXXXX")).string();
  if (::mkdtemp(pattern.data()) == nullptr) fail_change(directory, {errno, std::generic_category()});
  return pattern;
}

// A rename cannot replace a directory; better to learn it while the old model stands.
void refuse_directories(const fs::path& staging, const fs::path& directory) {
  for (const std::string& name : names_in(directory)) {
    const bool replaced = is_model_file(name) || is_there(staging / name);
    if (replaced && is_real_directory(directory / name)) {
      fail(ErrorKind::io, "'", (directory / name).string(),
           "' is a directory where the model needs a file; move it away");
    }
  }
}

}  // namespace

DirectoryUpdate::DirectoryUpdate(fs::path directory) : directory_(std::move(directory)) {
  made_directory_ = make_directory(directory_);
  bool locked = false;
  lock_ = lock_directory(directory_, &locked);
  try {
    complete_update(directory_);
    if (locked) remove_abandoned(directory_);
    staging_ = make_staging(directory_);
  } catch (...) {
    release();
    throw;
  }
}

DirectoryUpdate::~DirectoryUpdate() { release(); }

void DirectoryUpdate::release() {
  std::error_code ignored;
  if (!staging_.empty()) fs::remove_all(staging_, ignored);
  if (made_directory_) fs::remove(directory_, ignored);  // only when nothing is in it
  ::close(lock_);
}

uint64_t DirectoryUpdate::free_bytes() const {
  struct statvfs info {};
  if (::statvfs(directory_.c_str(), &info) != 0) return std::numeric_limits<uint64_t>::max();
  return uint64_t{info.f_bavail} * uint64_t{info.f_frsize};
}

void DirectoryUpdate::commit() {
  refuse_directories(staging_, directory_);
  write_list(staging_);
  move(staging_, directory_ / kComplete);
  staging_.clear();
  sync_directory(directory_);
  complete_update(directory_);
}

bool is_being_replaced(const fs::path& directory) { return is_real_directory(directory / kComplete); }

void complete_interrupted_update(const fs::path& directory) {
  if (is_being_replaced(directory)) DirectoryUpdate completing(directory);
}

std::string interrupted_update(const fs::path& directory) {
  const std::string name = directory.string();
  if (is_being_replaced(directory)) {
    return concat(": a save was interrupted while it replaced the model; complete it with: bdh convert '",
                  name, "' '", name, "' --overwrite");
  }
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (entry->path().filename().string().starts_with(kPrefix)) {
      return ": a save into it was interrupted or is under way; save again";
    }
  }
  return "";
}

}  // namespace bdh
