// Added tokens: texts that stand for one token wherever they occur, cut out before anything else happens.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "bdh/text/tokenizers/byte_trie.h"
#include "bdh/text/tokenizers/fields.h"
#include "bdh/text/tokenizers/vocabulary.h"

namespace bdh::tokenizers {

struct AddedToken {
  std::string text;
  std::string shown;  // what it decodes to: the text, normalized where the token is
  int32_t token = 0;
  bool single_word = false, lstrip = false, rstrip = false, normalized = false, special = false;
};

/// A part of a text: an added token, or what stands between them.
struct Section {
  size_t begin, end;
  int32_t token;  // Vocabulary::kNone: text for the model
};

class AddedTokens {
 public:
  using Normalize = std::function<std::string(std::string_view)>;

  /// The "added_tokens" of tokenizer.json. They get the tokens that the vocabulary has for them, else the
  /// next free ones in order: as in the package, whatever ids stand in the file; warns where these differ.
  /// `normalize` is the tokenizer's normalizer. Throws Error(bad_file), Error(unsupported).
  AddedTokens(const Fields& tokenizer, const Vocabulary& vocabulary, const Normalize& normalize,
              std::vector<std::string>* warnings);

  /// Cuts a text as it was given, by the tokens that are not normalized.
  void cut_raw(std::string_view text, std::vector<Section>& sections) const { cut(text, raw_, sections); }
  /// Cuts a normalized text by those that are.
  void cut_normalized(std::string_view text, std::vector<Section>& sections) const {
    cut(text, normalized_, sections);
  }

  /// Vocabulary::kNone when there is none.
  int32_t find(std::string_view text) const;
  /// What the token decodes to; nothing when there is none.
  std::optional<std::string_view> text(int32_t token) const;
  bool is_special(std::string_view text) const { return special_.contains(std::string(text)); }
  /// One more than the largest token.
  int64_t limit() const { return limit_; }

 private:
  /// Texts to look for.
  struct Matcher {
    ByteTrie trie;          // its values: indices into tokens_
    bool starts[256] = {};  // first bytes
    bool empty = true;
  };

  void add(const AddedToken& added, const Vocabulary& vocabulary);
  Matcher matcher(bool normalized) const;
  void cut(std::string_view text, const Matcher& matcher, std::vector<Section>& sections) const;
  bool widen(std::string_view text, const AddedToken& added, size_t from, Section& section) const;

  std::vector<AddedToken> tokens_;  // the last of each token counts
  std::unordered_map<std::string, int32_t> by_text_;
  std::unordered_map<int32_t, size_t> by_token_;  // indices into tokens_
  std::unordered_set<std::string> special_;
  int64_t largest_ = -1;
  int64_t limit_ = 0;
  Matcher raw_, normalized_;
};

}  // namespace bdh::tokenizers
