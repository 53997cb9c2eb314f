// BPE: a word's characters, neighbours merged in the order of the merges' ranks.
#include <algorithm>
#include <bit>
#include <limits>
#include <queue>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/hash.h"
#include "bdh/text/tokenizers/model.h"
#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

constexpr uint32_t kNoRank = std::numeric_limits<uint32_t>::max();

struct Merge {
  uint32_t rank = kNoRank;
  int32_t token = 0;
};

/// Pairs of tokens to their merge.
class MergeTable {
 public:
  explicit MergeTable(size_t count) : slots_(std::bit_ceil(2 * count + 2)), seed_(hash_seed()) {}

  /// The later of two merges of the same pair counts.
  void set(int32_t left, int32_t right, Merge merge) {
    Slot& slot = slots_[index(key(left, right))];
    slot = {key(left, right), merge};
  }
  /// A rank of kNoRank when there is none.
  Merge find(int32_t left, int32_t right) const { return slots_[index(key(left, right))].merge; }

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge;
  };
  static uint64_t key(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  /// The pair's slot, or the empty one where it belongs.
  size_t index(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    size_t at = mixed(key ^ seed_) & mask;
    while (slots_[at].merge.rank != kNoRank && slots_[at].key != key) at = (at + 1) & mask;
    return at;
  }

  std::vector<Slot> slots_;
  uint64_t seed_;
};

/// Few symbols: the best pair is looked for again after every merge.
void merge_few(std::vector<int32_t>& symbols, size_t first, const MergeTable& merges) {
  std::vector<Merge> pairs;
  for (size_t i = first; i + 1 < symbols.size(); ++i)
    pairs.push_back(merges.find(symbols[i], symbols[i + 1]));
  while (!pairs.empty()) {
    const auto best = std::min_element(pairs.begin(), pairs.end(),
                                       [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
    if (best->rank == kNoRank) return;
    const size_t at = first + static_cast<size_t>(best - pairs.begin());
    symbols[at] = best->token;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(at) + 1);
    const auto rest = pairs.erase(best);
    if (rest != pairs.end()) *rest = merges.find(symbols[at], symbols[at + 1]);
    if (rest != pairs.begin()) *std::prev(rest) = merges.find(symbols[at - 1], symbols[at]);
  }
}

/// Many symbols: a linked list of them, and a queue of the pairs by rank and place.
class LongWord {
 public:
  LongWord(std::vector<int32_t>& symbols, size_t first, const MergeTable& merges)
      : symbols_(symbols), first_(first), merges_(merges), nodes_(symbols.size() - first) {}

  void merge() {
    const auto count = static_cast<uint32_t>(nodes_.size());
    for (uint32_t i = 0; i < count; ++i) nodes_[i] = {symbols_[first_ + i], i - 1, i + 1, {}};
    nodes_.back().next = kEnd;
    for (uint32_t i = 0; i < count; ++i) look(i);
    while (!queue_.empty()) {
      const uint64_t entry = queue_.top();
      queue_.pop();
      const auto at = static_cast<uint32_t>(entry);
      if (nodes_[at].pair.rank == static_cast<uint32_t>(entry >> 32)) join(at);
    }
    symbols_.resize(first_);
    for (uint32_t at = 0; at != kEnd; at = nodes_[at].next) symbols_.push_back(nodes_[at].token);
  }

 private:
  static constexpr uint32_t kEnd = std::numeric_limits<uint32_t>::max();

  struct Node {
    int32_t token = 0;
    uint32_t previous = kEnd, next = kEnd;
    Merge pair;  // of this symbol and the next
  };

  void look(uint32_t at) {
    Node& node = nodes_[at];
    node.pair = node.next == kEnd ? Merge{} : merges_.find(node.token, nodes_[node.next].token);
    if (node.pair.rank != kNoRank) queue_.push(uint64_t{node.pair.rank} << 32 | at);
  }

  void join(uint32_t at) {
    Node& node = nodes_[at];
    Node& gone = nodes_[node.next];
    node.token = node.pair.token;
    node.next = gone.next;
    gone.pair = {};
    if (node.next != kEnd) nodes_[node.next].previous = at;
    look(at);
    if (node.previous != kEnd) look(node.previous);
  }

  std::vector<int32_t>& symbols_;
  size_t first_;
  const MergeTable& merges_;
  std::vector<Node> nodes_;
  std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>> queue_;  // rank and place
};

class Bpe : public Model {
 public:
  explicit Bpe(const Fields& fields);
  void tokenize(std::string_view word, std::vector<int32_t>& tokens) const override;

 private:
  void read_merges(const Fields& fields);
  void add_merge(std::string_view left, std::string_view right, uint32_t rank, const std::string& where);
  int32_t known(std::string_view text, const std::string& where) const;
  void add_symbols(std::string_view word, std::vector<int32_t>& tokens) const;
  bool add_bytes(std::string_view character, std::vector<int32_t>& tokens) const;
  int32_t unknown() const;

  std::string where_;
  std::string prefix_, suffix_;
  std::optional<std::string> unknown_text_;
  bool fuse_unknown_, ignore_merges_;
  std::vector<int32_t> bytes_;  // empty: without byte fallback
  std::vector<int32_t>
      characters_;  // tokens of the first characters of Unicode, where nothing is put around them
  MergeTable merges_;
};

size_t count_merges(const Fields& fields) {
  return fields.find("merges") ? fields.array("merges").size() : 0;
}

Bpe::Bpe(const Fields& fields)
    : Model(read_vocabulary(*fields.find("vocab"), fields.where("vocab"))),
      where_(fields.where()),
      prefix_(fields.short_string("continuing_subword_prefix", "")),
      suffix_(fields.short_string("end_of_word_suffix", "")),
      unknown_text_(fields.optional_string("unk_token")),
      fuse_unknown_(fields.boolean("fuse_unk", false)),
      ignore_merges_(fields.boolean("ignore_merges", false)),
      merges_(count_merges(fields)) {
  constexpr char32_t kCharacters = 0x250;
  const Json* dropout = fields.find("dropout");
  if (dropout && (!dropout->is_number() || dropout->as_number() != 0))
    fail(ErrorKind::unsupported, fields.where("dropout"),
         ": bdh cuts words the same way every time; set it to null");
  if (fields.boolean("byte_fallback", false)) bytes_ = byte_tokens(vocabulary());
  if (prefix_.empty() && suffix_.empty()) {
    for (char32_t c = 0; c < kCharacters; ++c) {
      std::string text;
      append_character(text, c);
      characters_.push_back(vocabulary().find(text));
    }
  }
  read_merges(fields);
}

/// Each is "left right" or ["left", "right"]; a line that begins with #version is merges.txt's header.
void Bpe::read_merges(const Fields& fields) {
  if (!fields.find("merges")) return;
  uint32_t rank = 0;
  for (const Json& merge : fields.array("merges")) {
    if (merge.is_string() && merge.as_string().starts_with("#version")) continue;
    const std::string where = fields.where("merges") + "[" + std::to_string(rank) + "]";
    if (merge.is_string()) {
      const std::string_view text = merge.as_string();
      const size_t space = text.find(' ');
      if (space == text.npos || text.find(' ', space + 1) != text.npos)
        fail(ErrorKind::bad_file, where, ": expected two tokens with a space between, found ",
             printable(text));
      add_merge(text.substr(0, space), text.substr(space + 1), rank, where);
    } else {
      if (!merge.is_array() || merge.as_array().size() != 2 || !merge.as_array()[0].is_string() ||
          !merge.as_array()[1].is_string())
        fail(ErrorKind::bad_file, where, ": expected two tokens");
      add_merge(merge.as_array()[0].as_string(), merge.as_array()[1].as_string(), rank, where);
    }
    ++rank;
  }
}

void Bpe::add_merge(std::string_view left, std::string_view right, uint32_t rank, const std::string& where) {
  if (right.size() < prefix_.size())
    fail(ErrorKind::bad_file, where, ": ", printable(right),
         " does not begin with the continuing_subword_prefix");
  const std::string whole = std::string(left) + std::string(right.substr(prefix_.size()));
  merges_.set(known(left, where), known(right, where), {rank, known(whole, where)});
}

int32_t Bpe::known(std::string_view text, const std::string& where) const {
  const int32_t token = vocabulary().find(text);
  if (token == Vocabulary::kNone)
    fail(ErrorKind::bad_file, where, ": the vocabulary has no token ", printable(text));
  return token;
}

int32_t Bpe::unknown() const {
  const int32_t token = vocabulary().find(*unknown_text_);
  if (token == Vocabulary::kNone)
    fail(ErrorKind::bad_file, where_, ": the vocabulary has no token ", printable(*unknown_text_),
         ", which unk_token names");
  return token;
}

/// A character as its bytes, if all of them have tokens.
bool Bpe::add_bytes(std::string_view character, std::vector<int32_t>& tokens) const {
  const auto token_of = [&](char byte) { return bytes_[static_cast<unsigned char>(byte)]; };
  const bool all = !bytes_.empty() && std::all_of(character.begin(), character.end(), [&](char byte) {
    return token_of(byte) != Vocabulary::kNone;
  });
  if (all) std::transform(character.begin(), character.end(), std::back_inserter(tokens), token_of);
  return all;
}

/// The word's characters as tokens. An unknown-token waits for the next known character, and bytes overtake
/// it, as in the package.
void Bpe::add_symbols(std::string_view word, std::vector<int32_t>& tokens) const {
  bool waiting = false;
  std::string decorated;
  for (size_t at = 0, end = 0; at < word.size(); at = end) {
    const Character c = character_at(word, at);
    end = at + c.bytes;
    std::string_view text = word.substr(at, c.bytes);
    int32_t token = Vocabulary::kNone;
    if (c.code < characters_.size()) {
      token = characters_[c.code];
    } else {
      if (!prefix_.empty() || !suffix_.empty()) {
        decorated = at > 0 ? prefix_ : "";
        decorated += text;
        if (end == word.size()) decorated += suffix_;
        text = decorated;
      }
      token = vocabulary().find(text);
    }
    if (token != Vocabulary::kNone) {
      if (waiting) tokens.push_back(unknown());
      waiting = false;
      tokens.push_back(token);
    } else if (!add_bytes(text, tokens) && unknown_text_) {
      if (waiting && !fuse_unknown_) tokens.push_back(unknown());
      waiting = true;
    }
  }
  if (waiting) tokens.push_back(unknown());
}

void Bpe::tokenize(std::string_view word, std::vector<int32_t>& tokens) const {
  constexpr size_t kFew = 48;
  if (ignore_merges_) {
    const int32_t whole = vocabulary().find(word);
    if (whole != Vocabulary::kNone) return tokens.push_back(whole);
  }
  const size_t first = tokens.size();
  add_symbols(word, tokens);
  const size_t count = tokens.size() - first;
  if (count >= std::numeric_limits<uint32_t>::max())
    fail(ErrorKind::unsupported, "a word of ", count, " characters is too long for a BPE tokenizer");
  if (count > kFew) {
    LongWord(tokens, first, merges_).merge();
  } else {
    merge_few(tokens, first, merges_);
  }
}

}  // namespace

std::unique_ptr<Model> read_bpe(const Fields& fields) {
  fields.object("vocab");
  return std::make_unique<Bpe>(fields);
}

}  // namespace bdh::tokenizers
