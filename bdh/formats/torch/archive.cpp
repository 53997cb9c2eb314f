// The zip archive that torch.save writes: finds the pickle, checks the byte order, hands out storages.
#include "bdh/formats/torch/archive.h"

#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"
#include "bdh/base/printable.h"

namespace bdh {
namespace {

constexpr std::string_view kPickleName = "data.pkl";
constexpr uint64_t kMaxByteOrder = 64;
constexpr uint64_t kPickleGrowth = 32;
constexpr uint64_t kSmallPickle = uint64_t{1} << 20;

}  // namespace

template <class... Parts>
void TorchArchive::bad(const Parts&... reason) const {
  fail(ErrorKind::bad_file, source_, ": ", reason...);
}

TorchArchive::TorchArchive(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                           std::string source)
    : source_(std::move(source)), owner_(std::move(owner)), zip_(bytes, source_), folder_(find_folder()) {
  if (zip_.find(folder_ + "constants.pkl") != nullptr) {
    fail(ErrorKind::unsupported, source_,
         ": is a TorchScript archive, a program and not a state_dict; load it in Python with torch.jit.load "
         "and "
         "save its state_dict() with torch.save");
  }
  check_byte_order();
  read_pickle_entry();
}

std::string TorchArchive::find_folder() const {
  std::string folder;
  for (const ZipEntry& entry : zip_.entries()) {
    const size_t slash = entry.name.find('/');
    if (slash == entry.name.npos || entry.name.substr(slash + 1) != kPickleName) continue;
    if (!folder.empty())
      bad("holds two pickles, ", printable(folder), " and ", printable(entry.name), "; keep one");
    folder = entry.name.substr(0, slash + 1);
  }
  if (folder.empty()) bad("is a zip archive without a ", kPickleName, "; it was not written by torch.save");
  return folder;
}

void TorchArchive::check_byte_order() {
  const ZipEntry* entry = zip_.find(folder_ + "byteorder");
  if (entry == nullptr) return;
  if (entry->bytes > kMaxByteOrder)
    bad("its byteorder entry has ", entry->bytes, " bytes; the file is damaged");
  const auto memory = zip_.unpack(*entry);
  const std::string_view order(reinterpret_cast<const char*>(memory.get()), entry->bytes);
  big_endian_ = order == "big";
  if (order == "little" || order == "big") return;
  bad("its byte order is ", printable(order), ", neither little nor big; the file is damaged");
}

void TorchArchive::read_pickle_entry() {
  const ZipEntry& entry = *zip_.find(folder_ + std::string(kPickleName));
  if (entry.bytes > kSmallPickle + kPickleGrowth * entry.stored_bytes) {
    bad("its pickle would grow to ", format_bytes(entry.bytes), " from ", format_bytes(entry.stored_bytes),
        ", which no saved model does");
  }
  pickle_memory_ = zip_.unpack(entry);
  pickle_ = {pickle_memory_.get(), entry.bytes};
}

TorchStorage TorchArchive::storage(std::string_view key) {
  const ZipEntry* entry = zip_.find(concat(folder_, "data/", key));
  if (entry == nullptr) bad("storage ", printable(key), " is missing; the file is incomplete, get it again");
  if (!entry->compressed) return {zip_.view(*entry), owner_, true, big_endian_};
  auto& memory = unpacked_[entry];
  if (memory == nullptr) memory = zip_.unpack(*entry);
  return {{memory.get(), entry->bytes}, memory, false, big_endian_};
}

}  // namespace bdh
