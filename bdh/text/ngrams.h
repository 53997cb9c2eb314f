// The n-grams of a growing text: which tokens have followed its last n - 1 tokens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace bdh {

/// Each token is looked at once, in constant time whatever n is; memory grows with the different n-grams.
class Ngrams {
 public:
  /// size: n, 1 or more.
  explicit Ngrams(int64_t size);

  /// Takes in what `text` has gained since the last call.
  void extend(std::span<const int32_t> text);
  /// Adds to `tokens` those that would end an n-gram that the text already has, each once.
  void add_completions(std::vector<int32_t>& tokens) const;

 private:
  /// Two polynomials of the tokens modulo 2^61 - 1: different n-grams have the same with a chance of 2^-120.
  struct Hash {
    uint64_t first = 0, second = 0;
    bool operator==(const Hash&) const = default;
  };
  struct Fold {
    size_t operator()(const Hash& hash) const { return static_cast<size_t>(hash.first ^ hash.second << 3); }
  };
  struct Follower {
    int32_t token;
    size_t next;  // where the next of the same prefix is, and one more; 0: there is none
  };

  static Hash joined(Hash hash, Hash bases, int32_t token);

  uint64_t prefix_;  // n - 1
  Hash leaving_;     // the factor of the prefix's first token once one more has come
  Hash window_;      // of the last n - 1 tokens
  size_t read_ = 0;
  std::unordered_set<Hash, Fold> seen_;
  std::unordered_map<Hash, size_t, Fold> heads_;
  std::vector<Follower> followers_;
};

}  // namespace bdh
