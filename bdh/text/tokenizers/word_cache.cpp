// Open addressing over one block of words and one of tokens; when it is full it begins anew.
#include "bdh/text/tokenizers/word_cache.h"

#include "bdh/text/tokenizers/hash.h"

namespace bdh::tokenizers {
namespace {

constexpr size_t kSlots = 1 << 15;
constexpr size_t kMaxUsed = kSlots / 2;
constexpr size_t kMaxProbes = 32;
constexpr size_t kNoSlot = kSlots;

uint32_t tag_of(uint64_t hash) { return static_cast<uint32_t>(hash >> 32); }

}  // namespace

WordCache::WordCache() : slots_(kSlots), seed_(hash_seed()) {}

/// The word's slot or the empty one where it belongs; kNoSlot when neither is near.
size_t WordCache::slot_for(std::string_view word, uint64_t hash) const {
  const uint32_t tag = tag_of(hash);
  size_t at = hash % kSlots;
  for (size_t probe = 0; probe < kMaxProbes; ++probe, at = (at + 1) % kSlots) {
    const Slot& slot = slots_[at];
    if (slot.length == 0) return at;
    if (slot.tag == tag && std::string_view(bytes_).substr(slot.begin, slot.length) == word) return at;
  }
  return kNoSlot;
}

bool WordCache::find(std::string_view word, std::vector<int32_t>& tokens) const {
  if (word.empty() || word.size() > kMaxWordBytes) return false;
  const size_t at = slot_for(word, hash_of(word, seed_));
  if (at == kNoSlot || slots_[at].length == 0) return false;
  const int32_t* first = tokens_.data() + slots_[at].first_token;
  tokens.insert(tokens.end(), first, first + slots_[at].count);
  return true;
}

void WordCache::add(std::string_view word, std::span<const int32_t> tokens) {
  constexpr size_t kMaxTokens = 255;
  if (word.empty() || word.size() > kMaxWordBytes || tokens.size() > kMaxTokens) return;
  if (used_ == kMaxUsed) clear();
  const uint64_t hash = hash_of(word, seed_);
  const size_t at = slot_for(word, hash);
  if (at == kNoSlot || slots_[at].length != 0) return;
  slots_[at] = {tag_of(hash), static_cast<uint32_t>(bytes_.size()), static_cast<uint32_t>(tokens_.size()),
                static_cast<uint8_t>(word.size()), static_cast<uint8_t>(tokens.size())};
  bytes_ += word;
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  ++used_;
}

void WordCache::clear() {
  slots_.assign(kSlots, {});
  bytes_.clear();
  tokens_.clear();
  used_ = 0;
}

}  // namespace bdh::tokenizers
