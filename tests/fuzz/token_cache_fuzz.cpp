// Any bytes as a token cache: refused in words, or tokens that can be read.
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/sha256.h"
#include "bdh/train/token_cache.h"
#include "tests/fuzz/memory_file.h"

namespace {

constexpr size_t kKey = 32, kHash = 96, kHeader = 160;  // where they begin, and where tokens do

/// With the hash that goes with the rest, so that not every change ends at it.
std::vector<uint8_t> with_hash(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  if (size < kHeader) return bytes;
  bdh::Sha256 sum;
  sum.add(std::as_bytes(std::span(bytes).subspan(kHeader)));
  sum.add(std::as_bytes(std::span(bytes).first(kHash)));
  const std::string hash = sum.finish();
  std::memcpy(bytes.data() + kHash, hash.data(), hash.size());
  return bytes;
}

void read(const std::vector<uint8_t>& bytes) {
  const bdh::fuzz::MemoryFile input(bytes.data(), bytes.size());
  std::string key(kHash - kKey, '0');
  if (bytes.size() >= kHeader) key.assign(reinterpret_cast<const char*>(bytes.data()) + kKey, key.size());
  try {
    const bdh::TokenData data = bdh::read_token_cache(input.path(), key);
    if (static_cast<size_t>(data.size()) > bytes.size()) abort();
    std::vector<int32_t> tokens(static_cast<size_t>(data.size()));
    data.copy(0, data.size(), tokens.data());
  } catch (const bdh::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  read({data, data + size});
  read(with_hash(data, size));
  return 0;
}
