// A zip archive of uncompressed entries, written through minizip.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "bdh/base/file.h"

namespace bdh {

/// The same entries give the same bytes. Every entry's data begins at a multiple of 64 bytes. Errors are
/// those of AtomicFile; what was begun is complete after finish() only.
class ZipWriter {
 public:
  explicit ZipWriter(AtomicFile& file);

  /// Begins an entry that `bytes` will be written of.
  void begin(const std::string& name, uint64_t bytes);
  void write(std::span<const std::byte> bytes);
  void end();
  void add(const std::string& name, std::string_view content);
  /// Writes the directory.
  void finish();

 private:
  struct Stream {
    AtomicFile& file;
    uint64_t at = 0;
    uint64_t size = 0;
    std::exception_ptr error;  // thrown in a callback, which C code lies above
  };
  struct Callbacks;
  struct Closer {
    void operator()(void* archive) const;
  };

  void check(int status) const;

  std::unique_ptr<Stream> stream_;
  std::unique_ptr<void, Closer> archive_;
};

}  // namespace bdh
