// A zip archive in memory, read through minizip, which sees it through the callbacks below and can reach no
// byte outside.
#include "bdh/formats/torch/zip_reader.h"

#include <unzip.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "bdh/base/printable.h"
#include "bdh/formats/torch/minizip.h"

namespace bdh {
namespace {

constexpr uint64_t kGrowth = 32;
constexpr uint64_t kSmallestBudget = uint64_t{16} << 20;
constexpr size_t kLongestName = 65535;
constexpr unsigned kReadBytes = 1u << 20;
constexpr unsigned long kEncrypted = 1ul | 1ul << 6 | 1ul << 13;
constexpr std::string_view kRemedy = "; the file is incomplete or damaged, get it again from its source";

// Where things lie in the headers that minizip does not give away.
constexpr std::string_view kDirectorySignature = "PK\x01\x02";
constexpr size_t kDirectoryHeaderBytes = 46;
constexpr size_t kStoredBytesAt = 20;
constexpr size_t kBytesAt = 24;
constexpr size_t kHeaderOffsetAt = 42;
constexpr std::string_view kLocalSignature = "PK\x03\x04";
constexpr size_t kLocalHeaderBytes = 30;
constexpr size_t kNameLengthAt = 26;
constexpr size_t kExtraLengthAt = 28;
constexpr size_t kExtraHeaderBytes = 4;
constexpr uint64_t kZip64Field = 1;
constexpr uint64_t kWide = 0xffffffff;  // the number stands in the zip64 field

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

uint64_t little_endian(std::string_view bytes) {
  uint64_t number = 0;
  for (size_t i = bytes.size(); i-- > 0;) number = number << 8 | static_cast<uint8_t>(bytes[i]);
  return number;
}

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
  static uLong read(voidpf, voidpf stream, void* out, uLong size) {
    Window& window = *static_cast<Window*>(stream);
    const uint64_t count = std::min<uint64_t>(size, window.bytes.size() - window.at);
    if (count > 0) std::memcpy(out, window.bytes.data() + window.at, count);
    window.at += count;
    window.ended = window.ended || count < size;
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

  // minizip takes a read that ends early for zeros unless it is told.
  static int error(voidpf, voidpf stream) { return static_cast<Window*>(stream)->ended ? 1 : 0; }
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
  zlib_filefunc64_def functions = minizip_functions<Callbacks>(window_.get());
  archive_.reset(unzOpen2_64("", &functions));
  if (!archive_) bad("the directory at the end of the zip archive is missing or damaged");
  read_directory();
  sort_by_name();
  check_overlaps();
}

void ZipReader::read_directory() {
  unz_global_info64 info{};
  unzGetGlobalInfo64(archive_.get(), &info);
  std::string buffer(kLongestName + 1, '\0');
  for (ZPOS64_T i = 0; i < info.number_entry; ++i) {
    const int status = i == 0 ? unzGoToFirstFile(archive_.get()) : unzGoToNextFile(archive_.get());
    if (status != UNZ_OK)
      bad("the zip archive's directory ends after ", i, " of ", info.number_entry, " entries");
    entries_.push_back(read_entry(buffer));
  }
}

ZipEntry ZipReader::read_entry(std::string& buffer) {
  unz_file_info64 info{};
  unz64_file_pos position{};
  const int status =
      unzGetCurrentFileInfo64(archive_.get(), &info, buffer.data(), buffer.size(), nullptr, 0, nullptr, 0);
  if (status != UNZ_OK || unzGetFilePos64(archive_.get(), &position) != UNZ_OK)
    bad("an entry of the zip archive's directory is damaged");
  ZipEntry entry;
  entry.name.assign(buffer, 0, info.size_filename);
  entry.compressed = info.compression_method != 0;
  entry.directory_position = position.pos_in_zip_directory;
  entry.number = position.num_of_file;
  check_entry(entry, info.compression_method, info.flag);
  read_places(entry, info.size_filename, info.size_file_extra);
  return entry;
}

void ZipReader::read_places(ZipEntry& entry, uint64_t name_bytes, uint64_t extra_bytes) const {
  std::string_view listed = text_of(window_->bytes);
  listed.remove_prefix(std::min(listed.size(), entry.directory_position));
  if (listed.size() < kDirectoryHeaderBytes + name_bytes + extra_bytes ||
      !listed.starts_with(kDirectorySignature))
    bad_entry(entry, "its place in the directory is not where the archive says");
  entry.stored_bytes = little_endian(listed.substr(kStoredBytesAt, 4));
  entry.bytes = little_endian(listed.substr(kBytesAt, 4));
  uint64_t header = little_endian(listed.substr(kHeaderOffsetAt, 4));
  widen(entry, header, listed.substr(kDirectoryHeaderBytes + name_bytes, extra_bytes));
  entry.offset = data_offset(entry, header);
}

void ZipReader::check_entry(const ZipEntry& entry, unsigned long method, unsigned long flags) const {
  if (leaves_archive(entry.name)) bad_entry(entry, "the name leads out of the archive");
  if ((flags & kEncrypted) != 0) {
    fail(ErrorKind::unsupported, source_, ": zip entry ", printable(entry.name),
         " is encrypted; unpack it with its password and save the model again");
  }
  if (entry.compressed && method != Z_DEFLATED) {
    fail(ErrorKind::unsupported, source_, ": zip entry ", printable(entry.name), " uses compression method ",
         method, "; bdh reads stored and deflated entries, save the model again with torch.save");
  }
}

// Numbers that do not fit 32 bits stand in an extra field of kind 1, in this order; minizip 1.1 does not look
// there where a long has 64 bits.
void ZipReader::widen(ZipEntry& entry, uint64_t& header, std::string_view extra) const {
  while (extra.size() >= kExtraHeaderBytes) {
    const uint64_t kind = little_endian(extra.substr(0, 2));
    std::string_view field = extra.substr(kExtraHeaderBytes, little_endian(extra.substr(2, 2)));
    extra.remove_prefix(kExtraHeaderBytes + field.size());
    if (kind != kZip64Field) continue;
    for (uint64_t* number : {&entry.bytes, &entry.stored_bytes, &header}) {
      if (*number != kWide) continue;
      if (field.size() < sizeof *number) bad_entry(entry, "the field of its sizes is too short");
      *number = little_endian(field.substr(0, sizeof *number));
      field.remove_prefix(sizeof *number);
    }
    return;
  }
}

uint64_t ZipReader::data_offset(const ZipEntry& entry, uint64_t header) const {
  std::string_view rest = text_of(window_->bytes);
  const auto skip = [&](uint64_t count) {
    if (count > rest.size()) bad_entry(entry, "its ", count, " bytes reach past the end of the file");
    const std::string_view skipped = rest.substr(0, count);
    rest.remove_prefix(count);
    return skipped;
  };
  skip(header);
  const std::string_view fields = skip(kLocalHeaderBytes);
  const std::string_view name = skip(little_endian(fields.substr(kNameLengthAt, 2)));
  if (!fields.starts_with(kLocalSignature) || name != entry.name)
    bad_entry(entry, "its header is missing or contradicts the directory");
  skip(little_endian(fields.substr(kExtraLengthAt, 2)));
  const uint64_t offset = window_->bytes.size() - rest.size();
  skip(entry.stored_bytes);
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
  open_entry(entry);
  const std::shared_ptr<std::byte> out =
      allocate_zeroed(entry.bytes, concat(source_, ": zip entry ", printable(entry.name)));
  read_opened(entry, out.get());
  return out;
}

void ZipReader::open_entry(const ZipEntry& entry) {
  const unz64_file_pos position{entry.directory_position, entry.number};
  unz_file_info64 info{};
  unzGoToFilePos64(archive_.get(), &position);
  unzGetCurrentFileInfo64(archive_.get(), &info, nullptr, 0, nullptr, 0, nullptr, 0);
  if (info.uncompressed_size != entry.bytes || info.compressed_size != entry.stored_bytes) {
    fail(ErrorKind::unsupported, source_, ": zip entry ", printable(entry.name),
         " needs a newer minizip to be unpacked; save the model again with torch.save");
  }
  if (unzOpenCurrentFile(archive_.get()) != UNZ_OK)
    bad_entry(entry, "its header is missing or contradicts the directory");
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
