// Files: mapped for reading, written whole or not at all.
#include "bdh/base/file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <optional>
#include <system_error>
#include <tuple>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr size_t kLargestWrite = size_t{1} << 30;
constexpr std::string_view kPrefix = ".bdh-", kSuffix = ".tmp";  // of files that are being written

std::string reason_of(int error) { return std::generic_category().message(error); }

// An open descriptor, closed with its scope.
struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

int open_retrying(const fs::path& path, int flags, mode_t mode = 0) {
  int number;
  do {
    number = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  } while (number < 0 && errno == EINTR);
  return number;
}

[[noreturn]] void fail_read(const fs::path& path, int error) {
  if (error == ENOENT || error == ENOTDIR) {
    fail(ErrorKind::not_found, path.string(), ": no such file; check the path");
  }
  fail(ErrorKind::io, "cannot read ", path.string(), ": ", reason_of(error),
       "; check the file and its permissions");
}

const char* write_remedy(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return "free some space or write elsewhere";
    case EACCES:
    case EPERM:
    case EROFS:
      return "choose a directory you may write to";
    case ENOENT:
    case ENOTDIR:
      return "create its directory first";
    default:
      return "check the path and the disk";
  }
}

[[noreturn]] void fail_write(const fs::path& path, int error) {
  fail(ErrorKind::io, "cannot write ", path.string(), ": ", reason_of(error), "; ", write_remedy(error));
}

void write_all(int descriptor, std::span<const std::byte> bytes, const fs::path& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), std::min(bytes.size(), kLargestWrite));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_write(path, errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

fs::path directory_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

// Another name for every call, in every process.
int64_t nanoseconds(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

FileIdentity identity_in(const struct stat& info) {
  return {info.st_dev, info.st_ino, static_cast<uint64_t>(info.st_size), nanoseconds(info.st_mtim)};
}

fs::path temporary_beside(const fs::path& path) {
  static std::atomic<unsigned> counter = 0;
  return directory_of(path) / concat(kPrefix, ::getpid(), "-", counter++, kSuffix);
}

bool is_temporary(std::string_view name) { return name.starts_with(kPrefix) && name.ends_with(kSuffix); }

// The lock goes with the process that holds it: a file that can be locked has nobody who writes it any more.
void remove_if_abandoned(const fs::path& path) {
  const Descriptor file{open_retrying(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK)};
  struct stat info {};
  if (file.number < 0 || ::fstat(file.number, &info) != 0 || !S_ISREG(info.st_mode)) return;
  if (::flock(file.number, LOCK_EX | LOCK_NB) == 0) ::unlink(path.c_str());
}

// False when somebody took the file for abandoned before it was locked, and removed it. File systems without
// locks do without.
bool claim(int descriptor) {
  int result;
  do {
    result = ::flock(descriptor, LOCK_EX);
  } while (result != 0 && errno == EINTR);
  struct stat info {};
  return result != 0 || ::fstat(descriptor, &info) != 0 || info.st_nlink > 0;
}

// The permissions of the file that will be replaced, or nothing when there is none yet.
std::optional<mode_t> existing_mode(const fs::path& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  if (!S_ISREG(info.st_mode)) {
    fail(ErrorKind::io, "cannot write ", path.string(),
         ": it exists and is not a regular file; choose another name");
  }
  return info.st_mode & 0777;
}

}  // namespace

MappedFile::MappedFile(fs::path path, std::span<const std::byte> bytes)
    : path_(std::move(path)), bytes_(bytes) {}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

std::shared_ptr<const MappedFile> MappedFile::open(const fs::path& path) {
  const Descriptor file{
      open_retrying(path, O_RDONLY | O_NONBLOCK)};  // a pipe must not block before it is refused
  if (file.number < 0) fail_read(path, errno);
  struct stat info {};
  if (::fstat(file.number, &info) != 0) fail_read(path, errno);
  if (S_ISDIR(info.st_mode)) {
    fail(ErrorKind::invalid_argument, path.string(), ": is a directory; name a file in it");
  }
  if (!S_ISREG(info.st_mode)) {
    fail(ErrorKind::invalid_argument, path.string(), ": is not a regular file; copy it to one first");
  }
  const auto size = static_cast<size_t>(info.st_size);
  std::shared_ptr<MappedFile> mapped(new MappedFile(path, {}));
  if (size == 0) return mapped;
  const void* start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number, 0);
  if (start == MAP_FAILED) fail_read(path, errno);
  mapped->bytes_ = {static_cast<const std::byte*>(start), size};
  return mapped;
}

std::string read_text(const fs::path& path, size_t max_bytes) {
  const auto file = MappedFile::open(path);
  const std::span<const std::byte> bytes = file->bytes();
  if (bytes.size() > max_bytes) {
    fail(ErrorKind::bad_file, path.string(), ": has ", format_bytes(bytes.size()), ", more than the ",
         format_bytes(max_bytes), " such a file may have; check that it is the right file");
  }
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

void sync_directory(const fs::path& directory) {
  const Descriptor opened{open_retrying(directory, O_RDONLY | O_DIRECTORY)};
  if (opened.number >= 0 && ::fsync(opened.number) != 0 && errno == EIO) fail_write(directory, EIO);
}

// A rename onto another name of the same file leaves both names.
bool link_file(const fs::path& file, const fs::path& name) {
  const fs::path temporary = temporary_beside(name);
  if (::link(file.c_str(), temporary.c_str()) != 0) return false;
  const bool renamed = ::rename(temporary.c_str(), name.c_str()) == 0;
  ::unlink(temporary.c_str());
  if (renamed) sync_directory(directory_of(name));
  return renamed;
}

bool FileIdentity::operator<(const FileIdentity& other) const {
  return std::tie(device, inode, bytes, written) <
         std::tie(other.device, other.inode, other.bytes, other.written);
}

FileIdentity identity_of(const fs::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? identity_in(info) : FileIdentity{};
}

int64_t last_read(const fs::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? nanoseconds(info.st_atim) : 0;
}

void note_read(const fs::path& path) {
  const timespec times[] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
  ::utimensat(AT_FDCWD, path.c_str(), times, 0);
}

// Whatever goes wrong here, new files can be written.
void remove_abandoned_files(const fs::path& directory) {
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error)) {
    if (is_temporary(entry->path().filename().string())) remove_if_abandoned(entry->path());
  }
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  const std::optional<mode_t> mode = existing_mode(path_);
  remove_abandoned_files(directory_of(path_));
  while (!open_temporary(mode.value_or(0666))) {
  }
  if (mode) ::fchmod(descriptor_, *mode);
}

/// False when the name was taken or did not last.
bool AtomicFile::open_temporary(unsigned mode) {
  const fs::path path = temporary_beside(path_);
  descriptor_ = open_retrying(path, O_WRONLY | O_CREAT | O_EXCL, mode);
  if (descriptor_ < 0 && errno == EEXIST) return false;
  if (descriptor_ < 0) fail_write(path_, errno);
  if (claim(descriptor_)) {
    temporary_ = path;
    return true;
  }
  ::close(std::exchange(descriptor_, -1));
  return false;
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) { write_all(descriptor_, bytes, path_); }

void AtomicFile::overwrite(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t count = std::min(bytes.size(), kLargestWrite);
    const ssize_t written = ::pwrite(descriptor_, bytes.data(), count, static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_write(path_, errno);
    bytes = bytes.subspan(static_cast<size_t>(written));
    offset += static_cast<uint64_t>(written);
  }
}

void AtomicFile::sync() {
  if (::fsync(descriptor_) != 0) fail_write(path_, errno);
}

FileIdentity AtomicFile::commit() {
  sync();
  struct stat info {};
  if (::fstat(descriptor_, &info) != 0) fail_write(path_, errno);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_write(path_, errno);
  temporary_.clear();
  ::close(std::exchange(descriptor_, -1));  // its lock kept others from removing the temporary name
  sync_directory(directory_of(path_));
  return identity_in(info);
}

AppendFile::AppendFile(fs::path path) : path_(std::move(path)) {
  existing_mode(path_);
  descriptor_ = open_retrying(path_, O_WRONLY | O_CREAT | O_APPEND, 0666);
  if (descriptor_ < 0) fail_write(path_, errno);
}

AppendFile::~AppendFile() { ::close(descriptor_); }

void AppendFile::write(std::string_view text) {
  write_all(descriptor_, std::as_bytes(std::span(text)), path_);
}

}  // namespace bdh
