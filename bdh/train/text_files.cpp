// The files of text that paths name: folders, in an order that does not depend on the disk.
#include "bdh/train/text_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <system_error>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

class TextFinder {
 public:
  TextFinder(const fs::path& except, std::vector<std::string>& warnings) : warnings_(warnings) {
    struct stat info {};
    if (!except.empty() && ::stat(except.c_str(), &info) == 0) folders_.insert({info.st_dev, info.st_ino});
  }

  void add(const fs::path& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) fail_look(path, errno);
    if (S_ISDIR(info.st_mode)) return add_folder(path, info);
    if (!S_ISREG(info.st_mode))
      fail(ErrorKind::invalid_argument, path.string(), ": is neither a file nor a folder; copy it to a file");
    files_.push_back(path);
  }

  std::vector<fs::path> take() { return std::move(files_); }

 private:
  [[noreturn]] static void fail_look(const fs::path& path, int error) {
    if (error == ENOENT || error == ENOTDIR)
      fail(ErrorKind::not_found, path.string(), ": no such file or folder; check the path");
    fail(ErrorKind::io, "cannot read ", path.string(), ": ", std::generic_category().message(error));
  }

  void add_folder(const fs::path& folder, const struct stat& info) {
    if (!folders_.insert({info.st_dev, info.st_ino}).second) return;
    for (const std::string& name : names_in(folder)) add_entry(folder / name);
  }

  void add_entry(const fs::path& path) {
    struct stat info {};
    const bool there = ::stat(path.c_str(), &info) == 0;
    if (there && S_ISDIR(info.st_mode)) return add_folder(path, info);
    if (there && S_ISREG(info.st_mode)) return files_.push_back(path);
    warnings_.push_back(
        concat(printable(path.string()), there ? " is no file" : " leads nowhere", "; passed over"));
  }

  static std::vector<std::string> names_in(const fs::path& folder) {
    std::error_code error;
    std::vector<std::string> names;
    for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
      std::string name = entry->path().filename().string();
      if (name[0] != '.') names.push_back(std::move(name));
    }
    if (error) fail_look(folder, error.value());
    std::sort(names.begin(), names.end());
    return names;
  }

  std::vector<std::string>& warnings_;
  std::set<std::pair<dev_t, ino_t>> folders_;  // read, or to be left out
  std::vector<fs::path> files_;
};

}  // namespace

std::vector<fs::path> find_text_files(const std::vector<fs::path>& paths, const fs::path& except,
                                      std::vector<std::string>& warnings) {
  TextFinder finder(except, warnings);
  for (const fs::path& path : paths) finder.add(path);
  std::vector<fs::path> files = finder.take();
  if (files.empty())
    fail(ErrorKind::invalid_argument, "there is no text to train on: ",
         paths.empty() ? "no file is named" : paths.front().string() + " has no files");
  return files;
}

}  // namespace bdh
