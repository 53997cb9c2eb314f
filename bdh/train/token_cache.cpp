// A token cache: a header of fixed size, then the tokens.
//   8 bytes "bdhtoken"; u32 version; u32 width of a token; u64 tokens; u64 bytes of the text they stand for;
//   64 bytes key; 64 bytes SHA-256, in hexadecimal, of the tokens and then the header before it.
#include "bdh/train/token_cache.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/memory.h"

namespace bdh {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "bdhtoken";
constexpr uint32_t kVersion = 1;
constexpr size_t kDigits = 64;  // of a SHA-256

struct Header {
  std::array<char, 8> magic{};
  uint32_t version = kVersion;
  uint32_t width = 0;
  uint64_t size = 0;
  uint64_t text_bytes = 0;
  std::array<char, kDigits> key{};
  std::array<char, kDigits> hash{};
};
static_assert(sizeof(Header) == 32 + 2 * kDigits);  // without holes

std::span<const std::byte> bytes_of(const Header& header) { return std::as_bytes(std::span(&header, 1)); }

/// What the hash counts beside the tokens.
std::span<const std::byte> hashed_bytes(const Header& header) {
  return bytes_of(header).first(sizeof(Header) - kDigits);
}

std::string_view text_of(const std::array<char, kDigits>& digits) { return {digits.data(), kDigits}; }

/// What is wrong with a header in a file of so many bytes; empty: nothing.
std::string problem_of(const Header& header, uint64_t file_bytes, const std::string& key) {
  if (std::string_view(header.magic.data(), kMagic.size()) != kMagic) return "is no token cache";
  if (header.version != kVersion) return concat("is of format ", header.version, ", not ", kVersion);
  if (text_of(header.key) != key) return "was made of another text or tokenizer";
  const bool width = header.width == 1 || header.width == 2 || header.width == 4;
  const uint64_t bytes = file_bytes - sizeof(Header);
  if (!width || bytes % header.width != 0 || bytes / header.width != header.size)
    return "is damaged: its header does not fit its length";
  return {};
}

std::string hash_of(std::span<const std::byte> tokens, const Header& header) {
  constexpr size_t kPiece = size_t{1} << 22;
  Sha256 sum;
  while (!tokens.empty()) {
    const std::span<const std::byte> piece = tokens.first(std::min(kPiece, tokens.size()));
    sum.add(piece);
    release_pages(piece);
    tokens = tokens.subspan(piece.size());
  }
  sum.add(hashed_bytes(header));
  return sum.finish();
}

}  // namespace

int token_width(int64_t vocab_size) { return vocab_size <= 1 << 8 ? 1 : vocab_size <= 1 << 16 ? 2 : 4; }

std::vector<std::byte> packed_tokens(std::span<const int32_t> tokens, int width) {
  std::vector<std::byte> bytes;
  bytes.reserve(tokens.size() * static_cast<size_t>(width));
  for (const int32_t token : tokens) {
    for (int i = 0; i < width; ++i)
      bytes.push_back(static_cast<std::byte>(static_cast<uint32_t>(token) >> (8 * i)));
  }
  return bytes;
}

TokenCacheWriter::TokenCacheWriter(const fs::path& file, std::string key, int width)
    : file_(file), key_(std::move(key)), width_(width) {
  file_.write(bytes_of(Header{}));
}

void TokenCacheWriter::add(std::span<const int32_t> tokens) {
  const std::vector<std::byte> bytes = packed_tokens(tokens, width_);
  file_.write(bytes);
  hash_.add(bytes);
  size_ += tokens.size();
}

void TokenCacheWriter::commit(uint64_t text_bytes) {
  Header header;
  std::copy(kMagic.begin(), kMagic.end(), header.magic.begin());
  header.width = static_cast<uint32_t>(width_);
  header.size = size_;
  header.text_bytes = text_bytes;
  std::copy_n(key_.begin(), std::min(kDigits, key_.size()), header.key.begin());
  hash_.add(hashed_bytes(header));
  const std::string hash = hash_.finish();
  std::copy(hash.begin(), hash.end(), header.hash.begin());
  file_.overwrite(0, bytes_of(header));
  file_.commit();
}

TokenData read_token_cache(const fs::path& path, const std::string& key) {
  const std::shared_ptr<const MappedFile> file = MappedFile::open(path);
  const std::span<const std::byte> bytes = file->bytes();
  Header header;
  if (bytes.size() >= sizeof header) std::memcpy(&header, bytes.data(), sizeof header);
  std::string problem = bytes.size() < sizeof header ? "is cut short" : problem_of(header, bytes.size(), key);
  const std::span<const std::byte> tokens = bytes.subspan(std::min(bytes.size(), sizeof header));
  if (problem.empty() && hash_of(tokens, header) != text_of(header.hash))
    problem = "is damaged: its hash is another";
  if (!problem.empty())
    fail(ErrorKind::bad_file, path.string(), ": ", problem, "; remove it, and it is made anew");
  return {file, tokens.data(), static_cast<int64_t>(header.size), static_cast<int>(header.width),
          header.text_bytes};
}

}  // namespace bdh
