// A zip archive in memory, read through minizip, which sees it through the callbacks below and can reach no
// byte outside. Knows nothing of PyTorch.
#include "bdh/formats/torch/zip_reader.h"

#include <unzip.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "bdh/base/printable.h"

namespace bdh {
namespace {

constexpr uint64_t kGrowth = 32;
constexpr uint64_t kSmallestBudget = uint64_t{16} << 20;
constexpr size_t kLongestName = 65535;
constexpr unsigned kReadBytes = 1u << 20;
constexpr unsigned long kEncrypted = 1ul | 1ul << 6 | 1ul << 13;
constexpr std::string_view kRemedy = "; the file is incomplete or damaged, get it again from its source";

// ".." as a component, an absolute path, a backslash or a zero byte.
bool leaves_archive(std::string_view name) {
  constexpr std::string_view kForbidden("\\\0", 2);
  if (name.starts_with('/') || name.find_first_of(kForbidden) != name.npos) return true;
  while (!name.empty()) {
    const std::string_view component = name.substr(0, name.find('/'));
    if (component == "..") return true;
    name.remove_prefix(std::min(name.size(), component.size() + 1));
  }
  return false;
}

}  // namespace

uint64_t largest_unpacked(uint64_t file_bytes) { return kSmallestBudget + kGrowth * file_bytes; }

struct ZipReader::Callbacks {
  static voidpf open(voidpf window, const void*, int) { return window; }

  static uLong read(voidpf, voidpf stream, void* out, uLong size) {
    Window& window = *static_cast<Window*>(stream);
    const uint64_t count = std::min<uint64_t>(size, window.bytes.size() - window.at);
    if (count > 0) std::memcpy(out, window.bytes.data() + window.at, count);
    window.at += count;
    return static_cast<uLong>(count);
  }

  static uLong write(voidpf, voidpf, const void*, uLong) { return 0; }

  static ZPOS64_T tell(voidpf, voidpf stream) { return static_cast<Window*>(stream)->at; }

  static long seek(voidpf, voidpf stream, ZPOS64_T offset, int origin) {
    Window& window = *static_cast<Window*>(stream);
    const uint64_t size = window.bytes.size();
    const uint64_t start = origin == ZLIB_FILEFUNC_SEEK_SET   ? 0
                           : origin == ZLIB_FILEFUNC_SEEK_CUR ? window.at
                                                              : size;
    if (offset > size - start) return -1;
    window.at = start + offset;
    return 0;
  }

  static int close(voidpf, voidpf) { return 0; }
  static int error(voidpf, voidpf) { return 0; }
};

void ZipReader::Closer::operator()(void* archive) const { unzClose(archive); }

template <class... Parts>
void ZipReader::bad(const Parts&... reason) const {
  fail(ErrorKind::bad_file, source_, ": ", reason..., kRemedy);
}

template <class... Parts>
void ZipReader::bad_entry(const ZipEntry& entry, const Parts&... reason) const {
  bad("zip entry ", printable(entry.name), ": ", reason...);
}

ZipReader::ZipReader(std::span<const std::byte> bytes, std::string source)
    : window_(std::make_unique<Window>(Window{bytes})),
      source_(std::move(source)),
      unpackable_(largest_unpacked(bytes.size())) {
  zlib_filefunc64_def callbacks{};
  callbacks.zopen64_file = Callbacks::open;
  callbacks.zread_file = Callbacks::read;
  callbacks.zwrite_file = Callbacks::write;
  callbacks.ztell64_file = Callbacks::tell;
  callbacks.zseek64_file = Callbacks::seek;
  callbacks.zclose_file = Callbacks::close;
  callbacks.zerror_file = Callbacks::error;
  callbacks.opaque = window_.get();
  archive_.reset(unzOpen2_64("", &callbacks));
  if (!archive_) bad("the directory at the end of the zip archive is missing or damaged");
  read_directory();
  sort_by_name();
  check_overlaps();
}

void ZipReader::read_directory() {
  unz_global_info64 info{};
  unzGetGlobalInfo64(archive_.get(), &info);
  std::string name_buffer(kLongestName + 1, '\0');
  for (ZPOS64_T i = 0; i < info.number_entry; ++i) {
    const int status = i == 0 ? unzGoToFirstFile(archive_.get()) : unzGoToNextFile(archive_.get());
    if (status != UNZ_OK)
      bad("the zip archive's directory ends after ", i, " of ", info.number_entry, " entries");
    entries_.push_back(read_entry(name_buffer));
  }
}

ZipEntry ZipReader::read_entry(std::string& name_buffer) {
  unz_file_info64 info{};
  unz64_file_pos position{};
  const int status = unzGetCurrentFileInfo64(archive_.get(), &info, name_buffer.data(), name_buffer.size(),
                                             nullptr, 0, nullptr, 0);
  if (status != UNZ_OK || unzGetFilePos64(archive_.get(), &position) != UNZ_OK)
    bad("an entry of the zip archive's directory is damaged");
  ZipEntry entry;
  entry.name.assign(name_buffer, 0, info.size_filename);
  entry.stored_bytes = info.compressed_size;
  entry.bytes = info.uncompressed_size;
  entry.compressed = info.compression_method != 0;
  entry.directory_position = position.pos_in_zip_directory;
  entry.number = position.num_of_file;
  check_name(entry);
  if ((info.flag & kEncrypted) != 0) {
    fail(ErrorKind::unsupported, source_, ": zip entry ", printable(entry.name),
         " is encrypted; unpack it with its password and save the model again");
  }
  if (entry.compressed && info.compression_method != Z_DEFLATED) {
    fail(ErrorKind::unsupported, source_, ": zip entry ", printable(entry.name), " uses compression method ",
         info.compression_method,
         "; bdh reads stored and deflated entries, save the model again with torch.save");
  }
  entry.offset = data_offset(entry);
  return entry;
}

void ZipReader::check_name(const ZipEntry& entry) const {
  if (leaves_archive(entry.name)) bad_entry(entry, "the name leads out of the archive");
}

uint64_t ZipReader::data_offset(const ZipEntry& entry) {
  int method = 0;
  if (unzOpenCurrentFile2(archive_.get(), &method, nullptr, 1) != UNZ_OK)
    bad_entry(entry, "its header is missing or contradicts the directory");
  const uint64_t offset = unzGetCurrentFileZStreamPos64(archive_.get());
  unzCloseCurrentFile(archive_.get());
  const uint64_t size = window_->bytes.size();
  if (offset > size || entry.stored_bytes > size - offset)
    bad_entry(entry, "its ", entry.stored_bytes, " bytes reach past the end of the file");
  if (!entry.compressed && entry.stored_bytes != entry.bytes) {
    bad_entry(entry, "is not compressed, but claims to hold ", entry.bytes, " bytes in ", entry.stored_bytes);
  }
  return offset;
}

void ZipReader::sort_by_name() {
  std::sort(entries_.begin(), entries_.end(),
            [](const ZipEntry& a, const ZipEntry& b) { return a.name < b.name; });
  const auto twice =
      std::adjacent_find(entries_.begin(), entries_.end(),
                         [](const ZipEntry& a, const ZipEntry& b) { return a.name == b.name; });
  if (twice != entries_.end()) bad_entry(*twice, "the name stands twice");
}

void ZipReader::check_overlaps() const {
  std::vector<const ZipEntry*> order;
  for (const ZipEntry& entry : entries_) {
    if (entry.stored_bytes > 0) order.push_back(&entry);
  }
  std::sort(order.begin(), order.end(),
            [](const ZipEntry* a, const ZipEntry* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < order.size(); ++i) {
    if (order[i]->offset - order[i - 1]->offset < order[i - 1]->stored_bytes)
      bad_entry(*order[i], "its bytes overlap those of ", printable(order[i - 1]->name));
  }
}

const ZipEntry* ZipReader::find(std::string_view name) const {
  const auto found =
      std::lower_bound(entries_.begin(), entries_.end(), name,
                       [](const ZipEntry& entry, std::string_view key) { return entry.name < key; });
  return found != entries_.end() && found->name == name ? &*found : nullptr;
}

std::span<const std::byte> ZipReader::view(const ZipEntry& entry) const {
  return window_->bytes.subspan(entry.offset, entry.bytes);
}

std::shared_ptr<const std::byte> ZipReader::unpack(const ZipEntry& entry) {
  if (entry.bytes > unpackable_) {
    bad_entry(entry, "would grow to ", format_bytes(entry.bytes), " from ", format_bytes(entry.stored_bytes),
              ", more than a file of ", format_bytes(window_->bytes.size()), " may unpack to");
  }
  unpackable_ -= entry.bytes;
  const std::shared_ptr<std::byte> out =
      allocate_zeroed(entry.bytes, concat(source_, ": zip entry ", printable(entry.name)));
  const unz64_file_pos position{entry.directory_position, entry.number};
  if (unzGoToFilePos64(archive_.get(), &position) != UNZ_OK || unzOpenCurrentFile(archive_.get()) != UNZ_OK)
    bad_entry(entry, "cannot be unpacked");
  read_opened(entry, out.get());
  return out;
}

void ZipReader::read_opened(const ZipEntry& entry, std::byte* out) {
  uint64_t done = 0;
  int count = 1;
  while (count > 0 && done < entry.bytes) {
    const auto wanted = static_cast<unsigned>(std::min<uint64_t>(kReadBytes, entry.bytes - done));
    count = unzReadCurrentFile(archive_.get(), out + done, wanted);
    if (count > 0) done += static_cast<uint64_t>(count);
  }
  const int status = unzCloseCurrentFile(archive_.get());
  if (done != entry.bytes) bad_entry(entry, "unpacks to ", done, " bytes, but claims ", entry.bytes);
  if (status == UNZ_CRCERROR) bad_entry(entry, "its bytes contradict its checksum");
}

}  // namespace bdh
