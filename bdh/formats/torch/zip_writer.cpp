// A zip archive of uncompressed entries, written through minizip.
#include "bdh/formats/torch/zip_writer.h"

#include <zip.h>

#include <algorithm>

#include "bdh/base/error.h"
#include "bdh/formats/torch/minizip.h"

namespace bdh {
namespace {

constexpr uint64_t kAlignment = 64;
constexpr uint64_t kLocalHeaderBytes = 30;
constexpr uint64_t kZip64ExtraBytes = 20;
constexpr uint64_t kZip64From = 0xffffffff;  // entries of this many bytes have sizes of 64 bits
constexpr size_t kPieceBytes = size_t{1} << 30;

// An extra field of the local header that fills up to the next multiple of kAlignment: a name of two letters,
// a length of two bytes, the filling.
std::string padding(uint64_t unpadded) {
  constexpr uint64_t kFieldHeader = 4;
  const uint64_t fill = (kAlignment - (unpadded + kFieldHeader) % kAlignment) % kAlignment;
  std::string field = "FB";
  field += static_cast<char>(fill);
  field += '\0';
  return field + std::string(fill, 'Z');
}

}  // namespace

// Callbacks of C code: what they throw is kept and thrown later. minizip is not told, and goes on writing to
// nowhere, since it leaks memory when it is.
struct ZipWriter::Callbacks {
  static uLong read(voidpf, voidpf, void*, uLong) { return 0; }

  static uLong write(voidpf, voidpf opaque, const void* bytes, uLong size) {
    Stream& stream = *static_cast<Stream*>(opaque);
    try {
      if (!stream.error) put(stream, {static_cast<const std::byte*>(bytes), size});
    } catch (...) {
      stream.error = std::current_exception();
    }
    stream.at += size;
    stream.size = std::max(stream.size, stream.at);
    return size;
  }

  // minizip goes back to fill in sizes and checksums, never across the end.
  static void put(Stream& stream, std::span<const std::byte> bytes) {
    if (stream.at == stream.size)
      stream.file.write(bytes);
    else
      stream.file.overwrite(stream.at, bytes);
  }

  static ZPOS64_T tell(voidpf, voidpf stream) { return static_cast<Stream*>(stream)->at; }

  static long seek(voidpf, voidpf opaque, ZPOS64_T offset, int origin) {
    Stream& stream = *static_cast<Stream*>(opaque);
    stream.at = origin == ZLIB_FILEFUNC_SEEK_SET   ? offset
                : origin == ZLIB_FILEFUNC_SEEK_CUR ? stream.at + offset
                                                   : stream.size + offset;
    return 0;
  }

  static int error(voidpf, voidpf) { return 0; }
};

void ZipWriter::Closer::operator()(void* archive) const { zipClose(archive, nullptr); }

ZipWriter::ZipWriter(AtomicFile& file) : stream_(std::make_unique<Stream>(Stream{file, 0, 0, nullptr})) {
  zlib_filefunc64_def functions = minizip_functions<Callbacks>(stream_.get());
  archive_.reset(zipOpen2_64("", APPEND_STATUS_CREATE, nullptr, &functions));
  check(archive_ ? ZIP_OK : ZIP_INTERNALERROR);
}

void ZipWriter::check(int status) const {
  if (stream_->error) std::rethrow_exception(stream_->error);
  if (status != ZIP_OK) fail(ErrorKind::io, "cannot write a zip archive: minizip's error ", status);
}

void ZipWriter::begin(const std::string& name, uint64_t bytes) {
  zip_fileinfo info{};
  info.tmz_date.tm_mday = 1;
  info.tmz_date.tm_year = 1980;
  const bool zip64 = bytes >= kZip64From;
  const std::string extra =
      padding(stream_->size + kLocalHeaderBytes + name.size() + (zip64 ? kZip64ExtraBytes : 0));
  check(zipOpenNewFileInZip64(archive_.get(), name.c_str(), &info, extra.data(),
                              static_cast<uInt>(extra.size()), nullptr, 0, nullptr, 0, 0, zip64 ? 1 : 0));
}

void ZipWriter::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const size_t count = std::min(bytes.size(), kPieceBytes);
    check(zipWriteInFileInZip(archive_.get(), bytes.data(), static_cast<unsigned>(count)));
    bytes = bytes.subspan(count);
  }
}

void ZipWriter::end() { check(zipCloseFileInZip(archive_.get())); }

void ZipWriter::add(const std::string& name, std::string_view content) {
  begin(name, content.size());
  write(std::as_bytes(std::span(content.data(), content.size())));
  end();
}

void ZipWriter::finish() { check(zipClose(archive_.release(), nullptr)); }

}  // namespace bdh
