// A vocabulary: all texts in one block, found through open addressing.
#include "bdh/text/tokenizers/vocabulary.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <random>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/fields.h"
#include "bdh/text/tokenizers/hash.h"

namespace bdh::tokenizers {

uint64_t hash_seed() {
  static const uint64_t seed = [] {
    std::random_device device;
    return uint64_t{device()} << 32 | device();
  }();
  return seed;
}

Vocabulary::Vocabulary(const std::vector<Entry>& entries)
    : slots_(std::bit_ceil(2 * entries.size() + 2)), seed_(hash_seed()) {
  if (entries.size() >= std::numeric_limits<uint32_t>::max() / 4)
    fail(ErrorKind::unsupported, "a vocabulary of ", entries.size(), " tokens is too large");
  const size_t mask = slots_.size() - 1;
  for (const Entry& entry : entries) {
    if (entry.text.size() > std::numeric_limits<uint32_t>::max())
      fail(ErrorKind::unsupported, "a token of ", entry.text.size(), " bytes is too long");
    const uint64_t hash = hash_of(entry.text, seed_);
    const auto tag = static_cast<uint32_t>(hash >> 32);
    size_t at = hash & mask;
    while (slots_[at].entry != 0 &&
           (slots_[at].tag != tag || text_of(entries_[slots_[at].entry - 1]) != entry.text))
      at = (at + 1) & mask;
    size_ += slots_[at].entry == 0;
    entries_.push_back({bytes_.size(), static_cast<uint32_t>(entry.text.size()), entry.token});
    slots_[at] = {tag, static_cast<uint32_t>(entries_.size())};
    bytes_ += entry.text;
  }
  by_token_.resize(entries_.size());
  std::iota(by_token_.begin(), by_token_.end(), 0u);
  std::stable_sort(by_token_.begin(), by_token_.end(),
                   [&](uint32_t a, uint32_t b) { return entries_[a].token < entries_[b].token; });
}

int32_t Vocabulary::find(std::string_view text) const {
  if (slots_.empty()) return kNone;
  const uint64_t hash = hash_of(text, seed_);
  const auto tag = static_cast<uint32_t>(hash >> 32);
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask; slots_[at].entry != 0; at = (at + 1) & mask) {
    const Stored& entry = entries_[slots_[at].entry - 1];
    if (slots_[at].tag == tag && text_of(entry) == text) return entry.token;
  }
  return kNone;
}

std::optional<std::string_view> Vocabulary::text(int32_t token) const {
  const auto index = static_cast<size_t>(std::max(token, 0));
  if (index < by_token_.size() && entries_[by_token_[index]].token == token &&
      (index == 0 || entries_[by_token_[index - 1]].token != token))
    return text_of(entries_[by_token_[index]]);
  const auto found = std::lower_bound(by_token_.begin(), by_token_.end(), token,
                                      [&](uint32_t entry, int32_t t) { return entries_[entry].token < t; });
  if (found == by_token_.end() || entries_[*found].token != token) return {};
  return text_of(entries_[*found]);
}

std::vector<Vocabulary::Entry> Vocabulary::entries() const {
  std::vector<Entry> all;
  all.reserve(entries_.size());
  for (const Stored& entry : entries_) all.push_back({text_of(entry), entry.token});
  return all;
}

Vocabulary read_vocabulary(const Json& json, const std::string& where) {
  if (!json.is_object()) fail(ErrorKind::bad_file, where, ": expected an object from texts to tokens");
  std::vector<Vocabulary::Entry> entries;
  entries.reserve(json.as_object().size());
  for (const auto& [text, token] : json.as_object())
    entries.push_back({text, token_id(token, where + ": " + printable(text))});
  return Vocabulary(entries);
}

}  // namespace bdh::tokenizers
