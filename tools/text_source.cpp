// A text read piece by piece from a file, a pipe or standard input, so that its length never matters.
#include "tools/text_source.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "bdh/base/error.h"
#include "tools/cli/interrupt.h"

namespace bdh::tools {
namespace {

std::string reason() { return std::generic_category().message(errno); }

int leave_open(std::FILE*) { return 0; }

std::unique_ptr<std::FILE, int (*)(std::FILE*)> open(const std::string& path) {
  if (path == "-") return {stdin, leave_open};
  std::FILE* file = std::fopen(path.c_str(), "rb");
  if (!file)
    fail(errno == ENOENT ? ErrorKind::not_found : ErrorKind::io, "cannot open '", path, "': ", reason());
  return {file, std::fclose};
}

std::optional<int64_t> regular_size(const std::string& path) {
  std::error_code error;
  if (path == "-" || !std::filesystem::is_regular_file(path, error)) return {};
  return static_cast<int64_t>(std::filesystem::file_size(path));
}

}  // namespace

TextSource::TextSource(const std::string& path, const TextRange& range)
    : name_(path == "-" ? "standard input" : "'" + path + "'"), file_(open(path)), left_(range.limit) {
  const std::optional<int64_t> whole = regular_size(path);
  if (range.offset < 0 && !whole)
    fail(ErrorKind::invalid_argument, "an offset from the end needs a regular file, and ", name_, " is none");
  const int64_t begin = range.offset < 0 ? std::max<int64_t>(0, *whole + range.offset) : range.offset;
  if (whole) size_ = std::min(range.limit, std::max<int64_t>(0, *whole - begin));
  skip(begin);
}

std::string TextSource::read(size_t bytes) {
  std::string text(static_cast<size_t>(std::min(static_cast<int64_t>(bytes), left_)), '\0');
  text.resize(std::fread(text.data(), 1, text.size(), file_.get()));
  stop_if_interrupted();
  if (std::ferror(file_.get())) fail(ErrorKind::io, "cannot read ", name_, ": ", reason());
  left_ -= static_cast<int64_t>(text.size());
  return text;
}

void TextSource::skip(int64_t bytes) {
  if (size_) {
    if (fseeko(file_.get(), static_cast<off_t>(bytes), SEEK_SET) != 0)
      fail(ErrorKind::io, "cannot seek in ", name_, ": ", reason());
    return;
  }
  char buffer[1 << 16];
  while (bytes > 0) {
    const size_t got =
        std::fread(buffer, 1, static_cast<size_t>(std::min<int64_t>(bytes, sizeof buffer)), file_.get());
    stop_if_interrupted();
    if (got == 0) return;
    bytes -= static_cast<int64_t>(got);
  }
}

}  // namespace bdh::tools
