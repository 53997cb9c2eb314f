// Mapped files, and files that appear complete or not at all.
#include "bdh/base/file.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "bdh/base/memory.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

using namespace bdh;
using test::FileSizeLimit;
using test::read_file;
using test::TemporaryDirectory;
using test::thrown_by;
namespace fs = std::filesystem;

namespace {

size_t files_in(const fs::path& directory) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(directory), fs::directory_iterator()));
}

mode_t mode_of(const fs::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 07777 : 0;
}

// While it lives, the process writes where an ordinary user may.
class OrdinaryUser {
 public:
  OrdinaryUser() {
    constexpr uid_t kNobody = 65534;
    if (was_root_) dropped_ = ::seteuid(kNobody) == 0;
  }
  ~OrdinaryUser() {
    if (dropped_ && ::seteuid(0) != 0) ::_exit(1);
  }
  bool ordinary() const { return !was_root_ || dropped_; }

 private:
  bool was_root_ = ::geteuid() == 0;
  bool dropped_ = false;
};

}  // namespace

TEST_CASE("file: a mapping has the file's bytes") {
  const TemporaryDirectory directory;
  const std::string content("hello\0world", 11);
  const auto file = MappedFile::open(directory.write("a", content));
  CHECK(std::string(reinterpret_cast<const char*>(file->bytes().data()), file->bytes().size()) == content);
  CHECK(file->path() == directory.path() / "a");
  CHECK(MappedFile::open(directory.write("empty", ""))->bytes().empty());
}

TEST_CASE("file: what cannot be mapped is refused") {
  const TemporaryDirectory directory;
  const auto missing = thrown_by([&] { MappedFile::open(directory.path() / "none"); });
  CHECK(missing.kind == ErrorKind::not_found);
  CHECK(missing.says("none"));
  directory.write("a", "x");
  CHECK(thrown_by([&] { MappedFile::open(directory.path() / "a" / "b"); }).kind == ErrorKind::not_found);
  CHECK(thrown_by([&] { MappedFile::open(directory.path()); }).says("is a directory"));
  CHECK(thrown_by([&] { MappedFile::open("/dev/null"); }).kind == ErrorKind::invalid_argument);
  REQUIRE(::mkfifo((directory.path() / "pipe").c_str(), 0600) == 0);
  CHECK(thrown_by([&] { MappedFile::open(directory.path() / "pipe"); }).kind == ErrorKind::invalid_argument);
  const std::string long_name(5000, 'x');
  CHECK(thrown_by([&] { MappedFile::open(directory.path() / long_name); }).kind == ErrorKind::io);
}

TEST_CASE("file: released pages read the same again") {
  const TemporaryDirectory directory;
  const auto file = MappedFile::open(directory.write("a", std::string(100'000, 'q')));
  const auto count = [&] { return std::count(file->bytes().begin(), file->bytes().end(), std::byte{'q'}); };
  CHECK(count() == 100'000);
  release_pages(file->bytes());
  release_pages(file->bytes().subspan(5, 9000));
  release_pages(file->bytes().subspan(7, 1));
  release_pages({});
  CHECK(count() == 100'000);
}

TEST_CASE("file: text up to a limit") {
  const TemporaryDirectory directory;
  const fs::path path = directory.write("a", "12345");
  CHECK(read_text(path, 5) == "12345");
  const auto thrown = thrown_by([&] { read_text(path, 4); });
  CHECK(thrown.kind == ErrorKind::bad_file);
  CHECK(thrown.says("5 B"));
  CHECK(read_text(directory.write("empty", ""), 0).empty());
}

TEST_CASE("file: an atomic file appears on commit") {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "model.bin";
  AtomicFile file(path);
  file.write("one ");
  file.write(std::string(300'000, 'x'));
  CHECK_FALSE(fs::exists(path));
  file.commit();
  CHECK(read_file(path) == concat("one ", std::string(300'000, 'x')));
  CHECK(files_in(directory.path()) == 1);
}

TEST_CASE("file: bytes written before can be replaced") {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "a";
  AtomicFile file(path);
  file.write("0123456789");
  file.overwrite(2, std::as_bytes(std::span("abc", 3)));
  file.write("end");
  file.commit();
  CHECK(read_file(path) == "01abc56789end");
}

TEST_CASE("file: without commit nothing is left and the old file stays") {
  const TemporaryDirectory directory;
  const fs::path path = directory.write("config.json", "old");
  {
    AtomicFile file(path);
    file.write("new");
  }
  CHECK(read_file(path) == "old");
  CHECK(files_in(directory.path()) == 1);
}

TEST_CASE("file: two writers of one file do not meet") {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "a";
  AtomicFile first(path);
  AtomicFile second(path);
  first.write("first");
  second.write("second");
  second.commit();
  CHECK(read_file(path) == "second");
  first.commit();
  CHECK(read_file(path) == "first");
}

TEST_CASE("file: what a killed writer left goes with the next write, and nothing else does") {
  const TemporaryDirectory directory;
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const pid_t writer = ::fork();
  if (writer == 0) {
    AtomicFile file(directory / "weights");
    file.write("half");
    if (::write(ready[1], "x", 1) == 1) ::pause();
    ::_exit(1);
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  directory.write("user.tmp", "");
  directory.write(".bdh-note", "");
  AtomicFile(directory / "other").commit();
  CHECK(files_in(directory.path()) == 4);  // the writer lives
  ::kill(writer, SIGKILL);
  ::waitpid(writer, nullptr, 0);
  CHECK(files_in(directory.path()) == 4);
  AtomicFile(directory / "weights").commit();
  CHECK(files_in(directory.path()) == 4);
  for (const char* name : {"user.tmp", ".bdh-note", "other", "weights"}) CHECK(fs::exists(directory / name));
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE("file: a link or a pipe under a temporary name stays") {
  const TemporaryDirectory directory;
  const fs::path kept = directory.write("kept", "kept");
  fs::create_symlink(kept, directory / ".bdh-1-0.tmp");
  REQUIRE(::mkfifo((directory / ".bdh-1-1.tmp").c_str(), 0600) == 0);
  AtomicFile(directory / "new").commit();
  CHECK(read_file(kept) == "kept");
  CHECK(files_in(directory.path()) == 4);
}

TEST_CASE("file: permissions of the old file, or those the umask leaves") {
  const TemporaryDirectory directory;
  const fs::path old_path = directory.write("old", "old");
  REQUIRE(::chmod(old_path.c_str(), 0640) == 0);
  const mode_t umask_before = ::umask(027);
  for (const char* name : {"old", "new"}) {
    AtomicFile file(directory.path() / name);
    file.write("x");
    file.commit();
  }
  ::umask(0);
  REQUIRE(::chmod(old_path.c_str(), 0604) == 0);
  AtomicFile(old_path).commit();
  ::umask(umask_before);
  CHECK(mode_of(old_path) == 0604);
  CHECK(mode_of(directory.path() / "new") == 0640);
}

TEST_CASE("file: a write that does not fit fails in words and keeps the old file") {
  const TemporaryDirectory directory;
  const fs::path path = directory.write("model.bin", "old");
  const auto thrown = thrown_by([&] {
    const FileSizeLimit limit(100'000);
    AtomicFile file(path);
    for (int i = 0; i < 3; ++i) file.write(std::string(70'000, 'x'));
    file.commit();
  });
  CHECK(thrown.kind == ErrorKind::io);
  CHECK(thrown.says(concat("cannot write ", path.string(), ": File too large; free some space")));
  CHECK(read_file(path) == "old");
  CHECK(files_in(directory.path()) == 1);
}

TEST_CASE("file: a missing directory is named") {
  const TemporaryDirectory directory;
  const auto thrown = thrown_by([&] { AtomicFile(directory.path() / "none" / "a"); });
  CHECK(thrown.kind == ErrorKind::io);
  CHECK(thrown.says("No such file or directory; create its directory first"));
}

TEST_CASE("file: an unwritable directory is refused") {
  const TemporaryDirectory directory;
  const fs::path closed = directory.path() / "closed";
  REQUIRE(fs::create_directory(closed));
  REQUIRE(::chmod(directory.path().c_str(), 0755) == 0);
  REQUIRE(::chmod(closed.c_str(), 0555) == 0);
  const OrdinaryUser user;
  if (!user.ordinary()) return;
  const auto thrown = thrown_by([&] { AtomicFile(closed / "a"); });
  CHECK(thrown.kind == ErrorKind::io);
  CHECK(thrown.says("Permission denied; choose a directory you may write to"));
}

TEST_CASE("file: directories and devices are not replaced") {
  const TemporaryDirectory directory;
  CHECK(thrown_by([&] { AtomicFile(directory.path()); }).says("is not a regular file"));
  CHECK(thrown_by([] { AtomicFile("/dev/null"); }).kind == ErrorKind::io);
  CHECK(files_in(directory.path()) == 0);
}

TEST_CASE("file: a commit that cannot rename leaves nothing behind") {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "a";
  const auto thrown = thrown_by([&] {
    AtomicFile file(path);
    file.write("x");
    fs::create_directory(path);
    file.commit();
  });
  CHECK(thrown.kind == ErrorKind::io);
  CHECK(files_in(directory.path()) == 1);
}

TEST_CASE("file: a name as long as the system allows") {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / std::string(255, 'n');
  AtomicFile file(path);
  file.write("x");
  file.commit();
  CHECK(read_file(path) == "x");
}

TEST_CASE("file: what is appended is there at once, after what was there") {
  const TemporaryDirectory directory;
  const fs::path path = directory.write("log", "old\n");
  AppendFile file(path);
  file.write("a\n");
  CHECK(read_file(path) == "old\na\n");
  file.write("b\n");
  CHECK(read_file(path) == "old\na\nb\n");
  AppendFile(directory / "new").write("x");
  CHECK(read_file(directory / "new") == "x");
  CHECK(thrown_by([&] { AppendFile(directory / "none" / "x"); }).says("create its directory"));
  CHECK(thrown_by([&] { AppendFile(directory.path()); }).says("not a regular file"));
  const FileSizeLimit limit(10);
  CHECK(thrown_by([&] { file.write("1234567890"); }).says("free some space"));
}
