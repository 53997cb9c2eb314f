// The format of PyTorch before 1.6: pickles one behind the other, then the storages.
#include "bdh/formats/torch/legacy.h"

#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/formats/torch/torch_types.h"

namespace bdh {
namespace {

using Kind = PickleValue::Kind;
using Items = std::vector<PickleValue>;

// The number that such files begin with, as a pickle writes it.
constexpr std::string_view kMagic = "\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
constexpr size_t kMagicWithin = 64;
constexpr int64_t kProtocol = 1001;
constexpr size_t kLengthBytes = 8;

// Places in what names a storage: ("storage", type, key, location, elements, view).
constexpr size_t kType = 1;
constexpr size_t kKey = 2;
constexpr size_t kParts = 5;

uint64_t length_at(std::span<const std::byte> bytes) {
  uint64_t length = 0;
  for (size_t i = kLengthBytes; i-- > 0;) length = length << 8 | static_cast<uint8_t>(bytes[i]);
  return length;
}

}  // namespace

template <class... Parts>
void LegacyTorchFile::bad(const Parts&... reason) const {
  fail(ErrorKind::bad_file, source_, ": ", reason..., "; the file is damaged, get it again from its source");
}

bool LegacyTorchFile::recognise(std::string_view bytes) {
  return bytes.substr(0, kMagicWithin).find(kMagic) != bytes.npos;
}

LegacyTorchFile::LegacyTorchFile(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                                 std::string source)
    : bytes_(bytes), owner_(std::move(owner)), source_(std::move(source)) {
  read_header();
  pickle_ = next_pickle();
  read_storages(next_pickle());
}

Pickle LegacyTorchFile::next_pickle() {
  size_t used = 0;
  Pickle pickle = read_pickle(bytes_.subspan(at_), source_, &used);
  at_ += used;
  return pickle;
}

void LegacyTorchFile::read_header() {
  next_pickle();
  const Pickle protocol = next_pickle();
  if (protocol.root.kind != Kind::integer || protocol.root.integer != kProtocol) {
    fail(ErrorKind::unsupported, source_, ": is in a format of PyTorch before 1.6 that is not ", kProtocol,
         "; convert it in Python: torch.save(torch.load(f, map_location='cpu', weights_only=True), f)");
  }
  const Pickle machine = next_pickle();
  const PickleValue* little = machine.find(machine.root, "little_endian");
  if (little != nullptr && little->kind == Kind::boolean && little->integer == 0) {
    fail(ErrorKind::unsupported, source_, ": was written on a big-endian machine before PyTorch 1.6; ",
         "save it again with a newer PyTorch");
  }
}

std::map<std::string, uint64_t, std::less<>> LegacyTorchFile::element_sizes() const {
  std::map<std::string, uint64_t, std::less<>> sizes;
  for (const Items& items : pickle_.containers) {
    const bool storage = items.size() >= kParts && items[0].kind == Kind::string &&
                         items[0].text() == "storage" && items[kType].kind == Kind::global &&
                         items[kKey].kind == Kind::string;
    if (!storage) continue;
    const auto size = size_of_torch_storage(items[kType].text());
    if (size) sizes.emplace(items[kKey].text(), *size);
  }
  return sizes;
}

void LegacyTorchFile::read_storages(const Pickle& keys) {
  if (keys.root.kind != Kind::list) bad("the keys of its storages are no list");
  const auto sizes = element_sizes();
  for (const PickleValue& key : keys.items(keys.root)) {
    const auto size = key.kind == Kind::string ? sizes.find(key.text()) : sizes.end();
    if (size == sizes.end())
      bad("a storage belongs to no tensor, or is of a type that PyTorch does not have");
    if (bytes_.size() - at_ < kLengthBytes) bad("ends before its storages do");
    const uint64_t elements = length_at(bytes_.subspan(at_));
    at_ += kLengthBytes;
    if (elements > (bytes_.size() - at_) / size->second) bad("ends before its storages do");
    storages_[size->first] = bytes_.subspan(at_, elements * size->second);
    at_ += elements * size->second;
  }
}

TorchStorage LegacyTorchFile::storage(std::string_view key) const {
  const auto found = storages_.find(key);
  if (found == storages_.end()) bad("storage ", printable(key), " is missing");
  return {found->second, owner_, true};
}

}  // namespace bdh
