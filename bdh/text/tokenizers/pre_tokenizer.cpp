// Pre-tokenizers: the ones of tokenizer.json by name.
#include "bdh/text/tokenizers/pre_tokenizer.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/byte_level.h"
#include "bdh/text/tokenizers/pattern.h"
#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

/// What becomes of the matches that a text is split at.
enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

Behavior behavior_of(const Fields& fields, const std::string& name) {
  if (name == "Removed") return Behavior::removed;
  if (name == "Isolated") return Behavior::isolated;
  if (name == "MergedWithPrevious") return Behavior::merged_with_previous;
  if (name == "MergedWithNext") return Behavior::merged_with_next;
  if (name == "Contiguous") return Behavior::contiguous;
  fail(ErrorKind::unsupported, fields.where("behavior"), ": bdh does not know the behavior ",
       printable(name));
}

/// A match or what lies between two of them, relative to a word.
struct Part {
  size_t begin, end;
  bool match;
};

/// Adds the words that a word's parts become.
void add_words(const Word& word, const std::vector<Part>& parts, Behavior behavior,
               std::vector<Word>& words) {
  const auto add = [&](const Part& part) {
    if (part.begin == part.end) return;
    words.push_back({word.begin + part.begin, word.begin + part.end, word.first && part.begin == 0});
  };
  const auto joins = [&](const Part& before, const Part& part) {
    if (behavior == Behavior::contiguous) return before.match == part.match;
    if (behavior == Behavior::merged_with_previous) return part.match && !before.match;
    return behavior == Behavior::merged_with_next && before.match && !part.match;
  };
  for (size_t i = 0; i < parts.size();) {
    Part joined = parts[i];
    for (++i; i < parts.size() && joins(parts[i - 1], parts[i]); ++i) joined.end = parts[i].end;
    if (behavior != Behavior::removed || !joined.match) add(joined);
  }
}

/// Splits every word at what find(text, parts) finds: parts that cover the text.
template <class Find>
void split(Words& words, Behavior behavior, Find find) {
  std::vector<Word> split_words;
  split_words.reserve(words.words.size());
  std::vector<Part> parts;
  for (size_t i = 0; i < words.words.size(); ++i) {
    parts.clear();
    find(words[i], parts);
    add_words(words.words[i], parts, behavior, split_words);
  }
  words.words = std::move(split_words);
}

/// Splits every word at the characters of a kind.
template <class Kind>
void split_at(Words& words, Behavior behavior, Kind kind) {
  split(words, behavior, [&](std::string_view text, std::vector<Part>& parts) {
    size_t from = 0;
    for (size_t at = 0; at < text.size();) {
      const Character c = character_at(text, at);
      if (kind(c.code)) {
        if (from < at) parts.push_back({from, at, false});
        from = at + c.bytes;
        parts.push_back({at, from, true});
      }
      at += c.bytes;
    }
    if (from < text.size()) parts.push_back({from, text.size(), false});
  });
}

class Split : public PreTokenizer {
 public:
  explicit Split(const Fields& fields)
      : pattern_(fields),
        behavior_(behavior_of(fields, fields.string("behavior"))),
        invert_(fields.boolean("invert", false)) {}
  void apply(Words& words) const override {
    std::vector<Match> matches;
    split(words, behavior_, [&](std::string_view text, std::vector<Part>& parts) {
      pattern_.find_all(text, matches);
      size_t from = 0;
      for (const Match& match : matches) {
        if (from < match.begin) parts.push_back({from, match.begin, invert_});
        parts.push_back({match.begin, match.end, !invert_});
        from = match.end;
      }
      if (from < text.size()) parts.push_back({from, text.size(), invert_});
    });
  }

 private:
  Pattern pattern_;
  Behavior behavior_;
  bool invert_;
};

/// The words of a text rewritten one by one: write(word, out) appends what becomes of it.
template <class Write>
void rewrite(Words& words, Write write) {
  std::string text;
  text.reserve(words.text.size() + words.text.size() / 4);
  for (size_t i = 0; i < words.words.size(); ++i) {
    const size_t begin = text.size();
    write(words[i], words.words[i].first, text);
    words.words[i].begin = begin;
    words.words[i].end = text.size();
  }
  words.text = std::move(text);
}

class ByteAlphabet : public PreTokenizer {
 public:
  void apply(Words& words) const override {
    rewrite(words, [](std::string_view word, bool, std::string& out) { append_byte_level(word, out); });
  }
};

class PrefixSpace : public PreTokenizer {
 public:
  void apply(Words& words) const override {
    rewrite(words, [](std::string_view word, bool, std::string& out) {
      if (!word.starts_with(' ')) out += ' ';
      out += word;
    });
  }
};

/// GPT-2's words: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
class Gpt2Words : public PreTokenizer {
 public:
  void apply(Words& words) const override {
    split(words, Behavior::isolated, [](std::string_view text, std::vector<Part>& parts) {
      for (size_t at = 0; at < text.size();) {
        const size_t end = word_end(text, at);
        parts.push_back({at, end, true});
        at = end;
      }
    });
  }

 private:
  enum class Kind { letter, number, space, other };

  static Kind kind_of(char32_t c) {
    if (c < 0x80) {
      if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return Kind::letter;
      if (c >= '0' && c <= '9') return Kind::number;
      return is_white_space(c) ? Kind::space : Kind::other;
    }
    if (is_white_space(c)) return Kind::space;
    if (is_letter(c)) return Kind::letter;
    return is_number(c) ? Kind::number : Kind::other;
  }
  static size_t run_end(std::string_view text, size_t at, Kind kind) {
    while (at < text.size()) {
      const Character c = character_at(text, at);
      if (kind_of(c.code) != kind) break;
      at += c.bytes;
    }
    return at;
  }
  static size_t contraction(std::string_view text) {
    if (text.size() < 2 || text[0] != '\'') return 0;
    if (std::string_view("stmd").find(text[1]) != std::string_view::npos) return 2;
    const std::string_view two = text.substr(1, 2);
    return two == "re" || two == "ve" || two == "ll" ? 3 : 0;
  }
  static size_t word_end(std::string_view text, size_t at) {
    const size_t contracted = contraction(text.substr(at));
    if (contracted > 0) return at + contracted;
    const size_t start = text[at] == ' ' && at + 1 < text.size() ? at + 1 : at;
    const Kind kind = kind_of(character_at(text, start).code);
    if (kind != Kind::space) return run_end(text, start, kind);
    const size_t end = run_end(text, at, Kind::space);
    if (end == text.size()) return end;
    // The last space goes with the word after it, unless it is the only one.
    const size_t last = character_before(text, end);
    return last > at ? last : end;
  }
};

class Metaspace : public PreTokenizer {
 public:
  explicit Metaspace(const Fields& fields) : split_(fields.boolean("split", true)) {
    append_character(replacement_, fields.character("replacement"));
    const bool add = fields.boolean("add_prefix_space", true);
    scheme_ = fields.string("prepend_scheme", add ? "always" : "never");
    if (!add) scheme_ = "never";
    if (scheme_ != "always" && scheme_ != "never" && scheme_ != "first")
      fail(ErrorKind::unsupported, fields.where("prepend_scheme"), ": bdh does not know ", printable(scheme_),
           "; it knows always, never and first");
  }
  void apply(Words& words) const override {
    rewrite(words, [&](std::string_view word, bool first, std::string& out) {
      const bool begins = word.starts_with(' ') || word.starts_with(replacement_);
      if (!begins && (scheme_ == "always" || (scheme_ == "first" && first))) out += replacement_;
      for (const char c : word) {
        if (c == ' ') {
          out += replacement_;
        } else {
          out += c;
        }
      }
    });
    if (!split_) return;
    split(words, Behavior::merged_with_next, [&](std::string_view text, std::vector<Part>& parts) {
      size_t from = 0;
      for (size_t at = text.find(replacement_); at != text.npos; at = text.find(replacement_, from)) {
        if (from < at) parts.push_back({from, at, false});
        from = at + replacement_.size();
        parts.push_back({at, from, true});
      }
      if (from < text.size()) parts.push_back({from, text.size(), false});
    });
  }

 private:
  std::string replacement_, scheme_;
  bool split_;
};

/// Runs of word characters, and runs of what is neither that nor white space: \w+|[^\w\s]+
class Whitespace : public PreTokenizer {
 public:
  void apply(Words& words) const override {
    split(words, Behavior::removed, [](std::string_view text, std::vector<Part>& parts) {
      for (size_t at = 0; at < text.size();) {
        const int kind = kind_at(text, at);
        size_t end = at;
        while (end < text.size() && kind_at(text, end) == kind) end += character_bytes(text[end]);
        parts.push_back({at, end, kind == 0});
        at = end;
      }
    });
  }

 private:
  static int kind_at(std::string_view text, size_t at) {
    const char32_t c = character_at(text, at).code;
    if (is_word(c)) return 1;
    return is_white_space(c) ? 0 : 2;
  }
};

class WhitespaceSplit : public PreTokenizer {
 public:
  void apply(Words& words) const override { split_at(words, Behavior::removed, is_white_space); }
};

class Bert : public PreTokenizer {
 public:
  void apply(Words& words) const override {
    split_at(words, Behavior::removed, is_white_space);
    split_at(words, Behavior::isolated, is_punctuation);
  }
};

class Punctuation : public PreTokenizer {
 public:
  explicit Punctuation(const Fields& fields)
      : behavior_(behavior_of(fields, fields.string("behavior", "Isolated"))) {}
  void apply(Words& words) const override { split_at(words, behavior_, is_punctuation); }

 private:
  Behavior behavior_;
};

class Digits : public PreTokenizer {
 public:
  explicit Digits(const Fields& fields)
      : behavior_(fields.boolean("individual_digits") ? Behavior::isolated : Behavior::contiguous) {}
  void apply(Words& words) const override { split_at(words, behavior_, is_number); }

 private:
  Behavior behavior_;
};

class CharDelimiterSplit : public PreTokenizer {
 public:
  explicit CharDelimiterSplit(const Fields& fields) : delimiter_(fields.character("delimiter")) {}
  void apply(Words& words) const override {
    split_at(words, Behavior::removed, [&](char32_t c) { return c == delimiter_; });
  }

 private:
  char32_t delimiter_;
};

class FixedLength : public PreTokenizer {
 public:
  explicit FixedLength(const Fields& fields) : length_(fields.integer("length", 1, INT64_MAX, 5)) {}
  void apply(Words& words) const override {
    split(words, Behavior::isolated, [&](std::string_view text, std::vector<Part>& parts) {
      for (size_t at = 0; at < text.size();) {
        size_t end = at;
        for (int64_t i = 0; i < length_ && end < text.size(); ++i) end += character_bytes(text[end]);
        parts.push_back({at, end, true});
        at = end;
      }
    });
  }

 private:
  int64_t length_;
};

template <class Kind>
void add(const Fields& fields, PreTokenizers& out) {
  if constexpr (std::is_constructible_v<Kind, const Fields&>) {
    out.steps.push_back(std::make_unique<Kind>(fields));
  } else {
    out.steps.push_back(std::make_unique<Kind>());
  }
}

void add_byte_level(const Fields& fields, PreTokenizers& out) {
  if (fields.boolean("add_prefix_space")) out.steps.push_back(std::make_unique<PrefixSpace>());
  if (fields.boolean("use_regex", true)) out.steps.push_back(std::make_unique<Gpt2Words>());
  out.byte_level = true;
}

void add_steps(const Fields& fields, PreTokenizers& out);

void add_sequence(const Fields& fields, PreTokenizers& out) {
  for (const Fields& element : fields.objects("pretokenizers")) add_steps(element, out);
}

struct Entry {
  std::string_view type;
  void (*add)(const Fields&, PreTokenizers&);
};

constexpr Entry kKinds[] = {
    {"Sequence", add_sequence},
    {"ByteLevel", add_byte_level},
    {"Split", add<Split>},
    {"Metaspace", add<Metaspace>},
    {"Whitespace", add<Whitespace>},
    {"WhitespaceSplit", add<WhitespaceSplit>},
    {"BertPreTokenizer", add<Bert>},
    {"Punctuation", add<Punctuation>},
    {"Digits", add<Digits>},
    {"CharDelimiterSplit", add<CharDelimiterSplit>},
    {"FixedLength", add<FixedLength>},
};

void add_steps(const Fields& fields, PreTokenizers& out) {
  const std::string& type = fields.string("type");
  const auto kind = std::find_if(std::begin(kKinds), std::end(kKinds),
                                 [&](const Entry& entry) { return entry.type == type; });
  if (kind == std::end(kKinds))
    fail(ErrorKind::unsupported, fields.where(), ": bdh has no pre-tokenizer ", printable(type));
  // What comes after the byte-level alphabet sees its characters.
  if (out.byte_level && kind->add != add_sequence) {
    out.steps.push_back(std::make_unique<ByteAlphabet>());
    out.byte_level = false;
  }
  kind->add(fields, out);
}

}  // namespace

PreTokenizers read_pre_tokenizer(const Fields& fields) {
  PreTokenizers out;
  add_steps(fields, out);
  return out;
}

}  // namespace bdh::tokenizers
