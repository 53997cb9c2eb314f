// Rolling hashes of n - 1 tokens, and for each a list of the tokens that followed.
#include "bdh/text/ngrams.h"

namespace bdh {
namespace {

constexpr uint64_t kPrime = (uint64_t{1} << 61) - 1;
constexpr uint64_t kBases[] = {0x0B5297A4D1F3C86Bu, 0x1D4E8C2F9A6B7351u};

uint64_t reduced(uint64_t value) {
  value = (value & kPrime) + (value >> 61);
  return value >= kPrime ? value - kPrime : value;
}

/// a b modulo 2^61 - 1, by halves: 2^61 is 1.
uint64_t product(uint64_t a, uint64_t b) {
  constexpr uint64_t kLow = 0xffffffffu;
  const uint64_t middle_one = (a >> 32) * (b & kLow), middle_two = (a & kLow) * (b >> 32);
  const uint64_t middle = reduced(middle_one) + reduced(middle_two);
  const uint64_t low = reduced((a & kLow) * (b & kLow)), high = (a >> 32) * (b >> 32);
  const uint64_t shifted = reduced(middle >> 29) + ((middle & ((uint64_t{1} << 29) - 1)) << 32);
  return reduced(reduced(low + reduced(shifted)) + reduced(high << 3));
}

uint64_t power(uint64_t base, uint64_t exponent) {
  uint64_t result = 1;
  for (; exponent > 0; exponent /= 2, base = product(base, base))
    if (exponent % 2 == 1) result = product(result, base);
  return result;
}

uint64_t number_of(int32_t token) { return static_cast<uint64_t>(static_cast<uint32_t>(token)) + 1; }

uint64_t difference(uint64_t a, uint64_t b) { return a >= b ? a - b : a + kPrime - b; }

}  // namespace

Ngrams::Ngrams(int64_t size)
    : prefix_(static_cast<uint64_t>(size) - 1),
      leaving_{power(kBases[0], prefix_), power(kBases[1], prefix_)} {}

/// The hash of what `hash` stands for and `token` behind it.
Ngrams::Hash Ngrams::joined(Hash hash, Hash bases, int32_t token) {
  return {reduced(product(hash.first, bases.first) + number_of(token)),
          reduced(product(hash.second, bases.second) + number_of(token))};
}

void Ngrams::extend(std::span<const int32_t> text) {
  constexpr Hash kBoth{kBases[0], kBases[1]};
  for (; read_ < text.size(); ++read_) {
    const int32_t token = text[read_];
    const Hash longer = joined(window_, kBoth, token);
    const bool whole = read_ >= prefix_;
    if (whole && seen_.insert(longer).second) {
      size_t& head = heads_[window_];
      followers_.push_back({token, head});
      head = followers_.size();
    }
    window_ = longer;
    if (!whole) continue;
    const uint64_t gone = number_of(text[read_ - prefix_]);
    window_ = {difference(longer.first, product(leaving_.first, gone)),
               difference(longer.second, product(leaving_.second, gone))};
  }
}

void Ngrams::add_completions(std::vector<int32_t>& tokens) const {
  const auto head = heads_.find(window_);
  if (read_ < prefix_ || head == heads_.end()) return;
  for (size_t at = head->second; at > 0; at = followers_[at - 1].next)
    tokens.push_back(followers_[at - 1].token);
}

}  // namespace bdh
