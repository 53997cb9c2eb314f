// A text read piece by piece from a file, a pipe or standard input, so that its length never matters.
#pragma once

#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <optional>
#include <string>

namespace bdh::tools {

/// Which part of the text to read.
struct TextRange {
  int64_t offset = 0;                                   // bytes to skip; negative: counted from a file's end
  int64_t limit = std::numeric_limits<int64_t>::max();  // bytes to read at most
};

class TextSource {
 public:
  /// path "-" is standard input. Throws Error(not_found), Error(io), Error(invalid_argument) for a negative
  /// offset into something that has no end yet.
  explicit TextSource(const std::string& path, const TextRange& range = {});

  /// The next `bytes` bytes; fewer only at the end.
  std::string read(size_t bytes);
  /// Bytes in all, where that is known beforehand.
  std::optional<int64_t> size() const { return size_; }

 private:
  void skip(int64_t bytes);

  std::string name_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_;
  int64_t left_;  // of the limit
  std::optional<int64_t> size_;
};

}  // namespace bdh::tools
