// PyTorch files: tells the formats apart by their first bytes, then reads the one that is read.
#include "bdh/formats/torch/torch_reader.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/file.h"
#include "bdh/formats/torch/archive.h"
#include "bdh/formats/torch/legacy.h"
#include "bdh/formats/torch/npz.h"

namespace bdh {
namespace {

constexpr std::string_view kZipStart = "PK\x03\x04";
constexpr std::string_view kEmptyZip = "PK\x05\x06";
constexpr std::string_view kTarMagic = "ustar";
constexpr size_t kTarMagicAt = 257;

void check_format(std::string_view bytes, const std::string& source) {
  if (bytes.size() > kTarMagicAt && bytes.substr(kTarMagicAt).starts_with(kTarMagic)) {
    fail(ErrorKind::unsupported, source,
         ": is in the format of PyTorch before 0.1.10; convert it in Python: ",
         "torch.save(torch.load(f, map_location='cpu', weights_only=False), f)");
  }
  if (!bytes.starts_with(kZipStart) && !bytes.starts_with(kEmptyZip)) {
    fail(ErrorKind::bad_file, source,
         ": is not a PyTorch file, which begins as a zip archive does; check that it ",
         "is the right file, complete, and saved with torch.save");
  }
}

TorchFile read_legacy(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                      const std::string& source, TorchParts parts) {
  const LegacyTorchFile file(bytes, std::move(owner), source);
  return read_state_dict(
      file.pickle(), [&](std::string_view key) { return file.storage(key); }, largest_unpacked(bytes.size()),
      source, parts);
}

}  // namespace

TorchFile read_torch_file(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                          const std::string& source, TorchParts parts) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (LegacyTorchFile::recognise(text)) return read_legacy(bytes, std::move(owner), source, parts);
  check_format(text, source);
  if (is_npz(text)) return read_npz(bytes, owner, source);
  TorchArchive archive(bytes, std::move(owner), source);
  const Pickle pickle = read_pickle(archive.pickle(), source);
  return read_state_dict(
      pickle, [&](std::string_view key) { return archive.storage(key); }, largest_unpacked(bytes.size()),
      source, parts);
}

TorchFile TorchFile::open(const std::filesystem::path& path, TorchParts parts) {
  const auto file = MappedFile::open(path);
  return read_torch_file(file->bytes(), file, path.string(), parts);
}

}  // namespace bdh
