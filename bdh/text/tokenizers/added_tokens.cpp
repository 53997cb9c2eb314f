// Added tokens: the leftmost and of those the longest counts.
#include "bdh/text/tokenizers/added_tokens.h"

#include <algorithm>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

constexpr size_t kMaxTextBytes = 4096;
constexpr int32_t kNoToken = -1;  // where a file gives a text alone

AddedToken read_token(const Fields& fields) {
  AddedToken added;
  added.text = fields.string("content");
  added.token = static_cast<int32_t>(fields.integer("id", 0, kTokenLimit - 1, kNoToken));
  added.single_word = fields.boolean("single_word", false);
  added.lstrip = fields.boolean("lstrip", false);
  added.rstrip = fields.boolean("rstrip", false);
  added.special = fields.boolean("special", false);
  added.normalized = fields.boolean("normalized", !added.special);
  if (added.text.size() > kMaxTextBytes)
    fail(ErrorKind::unsupported, fields.where(), ": its text is longer than ", kMaxTextBytes, " bytes");
  return added;
}

bool word_before(std::string_view text, size_t end) {
  return end > 0 && is_word(character_at(text, character_before(text, end)).code);
}

bool word_at(std::string_view text, size_t begin) {
  return begin < text.size() && is_word(character_at(text, begin).code);
}

size_t skip_spaces_back(std::string_view text, size_t end) {
  while (end > 0) {
    const size_t before = character_before(text, end);
    if (!is_white_space(character_at(text, before).code)) break;
    end = before;
  }
  return end;
}

size_t skip_spaces(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const Character c = character_at(text, begin);
    if (!is_white_space(c.code)) break;
    begin += c.bytes;
  }
  return begin;
}

}  // namespace

AddedTokens::AddedTokens(const Fields& tokenizer, const Vocabulary& vocabulary, const Normalize& normalize,
                         std::vector<std::string>* warnings) {
  limit_ = vocabulary.limit();
  if (tokenizer.find("added_tokens")) {
    for (const Fields& fields : tokenizer.objects("added_tokens")) {
      const AddedToken added = read_token(fields);
      if (added.text.empty()) continue;
      add(added, vocabulary);
      if (warnings && added.token != kNoToken && tokens_.back().text == added.text &&
          tokens_.back().token != added.token)
        warnings->push_back(concat(fields.where(), ": ", printable(added.text), " is token ",
                                   tokens_.back().token, ", not ", added.token, " as the file says"));
    }
  }
  for (AddedToken& added : tokens_) added.shown = added.normalized ? normalize(added.text) : added.text;
  raw_ = matcher(false);
  normalized_ = matcher(true);
}

void AddedTokens::add(const AddedToken& added, const Vocabulary& vocabulary) {
  if (added.special) special_.insert(added.text);
  const auto known = by_text_.find(added.text);
  int64_t token = known != by_text_.end() ? known->second : vocabulary.find(added.text);
  if (token == Vocabulary::kNone) {
    const auto size = static_cast<int64_t>(vocabulary.size());
    token = std::max(size, largest_ + 1);
  }
  tokens_.push_back(added);
  tokens_.back().token = static_cast<int32_t>(token);
  by_text_[added.text] = tokens_.back().token;
  by_token_[tokens_.back().token] = tokens_.size() - 1;
  largest_ = std::max(largest_, token);
  limit_ = std::max(limit_, token + 1);
}

/// Special tokens come first, as of two equal texts the first counts. A text that is special once is special.
AddedTokens::Matcher AddedTokens::matcher(bool normalized) const {
  std::vector<std::pair<std::string_view, int32_t>> found;
  Matcher matcher;
  for (const bool special : {true, false}) {
    for (size_t i = 0; i < tokens_.size(); ++i) {
      const AddedToken& added = tokens_[i];
      if (by_token_.at(added.token) != i) continue;  // added again later
      if (added.normalized != normalized || is_special(added.text) != special || added.shown.empty())
        continue;
      found.emplace_back(added.shown, static_cast<int32_t>(i));
      matcher.starts[static_cast<unsigned char>(added.shown[0])] = true;
    }
  }
  matcher.empty = found.empty();
  matcher.trie = ByteTrie(std::move(found));
  return matcher;
}

/// Takes in spaces; false when the token must be a word of its own and is not.
bool AddedTokens::widen(std::string_view text, const AddedToken& added, size_t from, Section& section) const {
  if (added.single_word && (word_before(text, section.begin) || word_at(text, section.end))) return false;
  if (added.lstrip) section.begin = std::max(skip_spaces_back(text, section.begin), from);
  if (added.rstrip) section.end = skip_spaces(text, section.end);
  return true;
}

void AddedTokens::cut(std::string_view text, const Matcher& matcher, std::vector<Section>& sections) const {
  sections.clear();
  size_t from = 0;
  for (size_t at = 0; at < text.size() && !matcher.empty;) {
    ByteTrie::Node node = ByteTrie::kRoot;
    int32_t longest = ByteTrie::kNone;
    size_t end = at;
    for (size_t i = at; i < text.size() && (i > at || matcher.starts[static_cast<unsigned char>(text[i])]);
         ++i) {
      node = matcher.trie.child(node, text[i]);
      if (node == ByteTrie::kRoot) break;
      if (matcher.trie.value(node) == ByteTrie::kNone) continue;
      longest = matcher.trie.value(node);
      end = i + 1;
    }
    if (longest == ByteTrie::kNone) {
      ++at;
      continue;
    }
    const int32_t token = tokens_[static_cast<size_t>(longest)].token;
    Section section{at, end, token};
    at = end;
    if (!widen(text, tokens_[by_token_.at(token)], from, section)) continue;
    if (section.begin >= section.end) continue;  // the token before has taken these spaces
    if (from < section.begin) sections.push_back({from, section.begin, Vocabulary::kNone});
    sections.push_back(section);
    from = section.end;
  }
  if (from != text.size()) sections.push_back({from, text.size(), Vocabulary::kNone});
}

int32_t AddedTokens::find(std::string_view text) const {
  const auto found = by_text_.find(std::string(text));
  return found == by_text_.end() ? Vocabulary::kNone : found->second;
}

std::optional<std::string_view> AddedTokens::text(int32_t token) const {
  const auto found = by_token_.find(token);
  if (found == by_token_.end()) return {};
  return tokens_[found->second].shown;
}

}  // namespace bdh::tokenizers
