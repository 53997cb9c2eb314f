// PyTorch files: tells the formats apart by their first bytes, then reads the one that is read.
#include "bdh/formats/torch/torch_reader.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/formats/torch/archive.h"

namespace bdh {
namespace {

constexpr std::string_view kZipStart = "PK\x03\x04";
constexpr std::string_view kEmptyZip = "PK\x05\x06";
// The number that files before the zip format begin with, as a pickle writes it.
constexpr std::string_view kOldMagic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr size_t kOldMagicWithin = 64;
constexpr std::string_view kTarMagic = "ustar";
constexpr size_t kTarMagicAt = 257;

bool is_old_format(std::string_view bytes) {
  const bool tar = bytes.size() > kTarMagicAt && bytes.substr(kTarMagicAt).starts_with(kTarMagic);
  return tar || bytes.substr(0, kOldMagicWithin).find(kOldMagic) != bytes.npos;
}

void check_format(std::string_view bytes, const std::string& source) {
  if (is_old_format(bytes)) {
    fail(ErrorKind::unsupported, source, ": is in the format of PyTorch before 1.6; convert it in Python: ",
         "torch.save(torch.load(f, map_location='cpu', weights_only=True), f)");
  }
  if (!bytes.starts_with(kZipStart) && !bytes.starts_with(kEmptyZip)) {
    fail(ErrorKind::bad_file, source,
         ": is not a PyTorch file, which begins as a zip archive does; check that it ",
         "is the right file, complete, and saved with torch.save");
  }
}

}  // namespace

TorchFile read_torch_file(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                          const std::string& source) {
  check_format({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, source);
  TorchArchive archive(bytes, std::move(owner), source);
  const Pickle pickle = read_pickle(archive.pickle(), source);
  return read_state_dict(
      pickle, [&](std::string_view key) { return archive.storage(key); }, largest_unpacked(bytes.size()),
      source);
}

TorchFile TorchFile::open(const std::filesystem::path& path) {
  const auto file = MappedFile::open(path);
  return read_torch_file(file->bytes(), file, path.string());
}

}  // namespace bdh
