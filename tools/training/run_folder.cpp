// Making, locking and looking into the folder of a training run.
#include "tools/training/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "bdh/base/error.h"

namespace bdh::tools {
namespace {

namespace fs = std::filesystem;

constexpr const char *kLock = ".lock", *kStop = "STOP";
constexpr auto kLookAgain = std::chrono::milliseconds(100);

}  // namespace

RunFolder::~RunFolder() {
  if (lock_ >= 0) ::close(lock_);
}

// A file system that has no locks is forgiven.
void RunFolder::lock() {
  std::error_code error;
  fs::create_directories(path_, error);
  if (error) fail(ErrorKind::io, path_.string(), ": cannot make the folder: ", error.message());
  const fs::path file = path_ / kLock;
  lock_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (lock_ < 0)
    fail(ErrorKind::io, file.string(), ": cannot open: ", std::generic_category().message(errno));
  if (::flock(lock_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  fail(ErrorKind::invalid_argument, path_.string(),
       ": another bdh train is running there; wait for it, or give another --out");
}

bool RunFolder::asked_to_stop() {
  const auto now = std::chrono::steady_clock::now();
  if (stop_ || now - looked_ < kLookAgain) return stop_;
  looked_ = now;
  std::error_code none;
  stop_ = fs::exists(path_ / kStop, none);
  return stop_;
}

void RunFolder::remove_stop() {
  std::error_code ignored;
  fs::remove(path_ / kStop, ignored);
}

}  // namespace bdh::tools
