// A class becomes one PCRE2 bracket where it can, else alternatives of one character each.
#include "bdh/text/tokenizers/character_class.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/text/tokenizers/case_folds.h"
#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

constexpr int kMaxDepth = 200;  // of classes within one another
constexpr const char* kAnyCharacter = "(?s:.)";
constexpr const char* kFoldsToSeveral = "a character that is several ones without regard to case";

std::string bracket(const std::string& members, bool negated) {
  return (negated ? "[^" : "[") + members + "]";
}

/// What stands between brackets.
struct Content {
  std::string characters;  // members with the case that is written
  std::string sets;        // members whose case does not matter any more
  std::vector<std::string> others;
  std::vector<std::pair<char32_t, char32_t>> ranges;  // `characters` once more
  bool every_fold = false;                            // a set has every character that folds to several

  bool empty() const { return characters.empty() && sets.empty() && others.empty(); }

  /// A pattern of one character.
  std::string pattern(bool negated, bool any_case) const {
    const bool mixed = any_case && !characters.empty() && !sets.empty();
    if (others.empty() && !mixed) {
      const std::string one = bracket(characters + sets, negated);
      return any_case && characters.empty() ? "(?-i:" + one + ")" : one;
    }
    std::string either = "(?:";
    if (mixed) {
      either += bracket(characters, false) + "|(?-i:" + bracket(sets, false) + ")|";
    } else if (!(characters + sets).empty()) {
      either += bracket(characters + sets, false) + "|";
    }
    for (const std::string& other : others) either += other + "|";
    either.back() = ')';
    return negated ? "(?:(?!" + either + ")" + kAnyCharacter + ")" : either;
  }
};

/// The strings that characters fold to, the shorter ones first, each as an alternative.
const std::string& fold_alternatives() {
  static const std::string all = [] {
    std::vector<std::u32string> strings;
    for (const CaseFold& fold : case_folds())
      if (std::find(strings.begin(), strings.end(), fold.folded) == strings.end())
        strings.push_back(fold.folded);
    std::string text;
    for (const std::u32string& string : strings) {
      text += '|';
      for (const char32_t c : string) text += quoted(c);
    }
    return text;
  }();
  return all;
}

class ClassReader {
 public:
  ClassReader(PatternReader& reader, const ClassContext& context) : in_(reader), context_(context) {}

  std::string run();

 private:
  /// A member: one character, or what has been added to the content already.
  using Member = std::optional<char32_t>;

  Content content(int depth, bool first = true);
  std::string nested(int depth);
  void item(Content& found, int depth);
  Member member(Content& found, int depth);
  Member escape(Content& found);
  void posix(Content& found);
  void add(Content& found, const CharacterSet& set, bool negated = false) const;
  void add(Content& found, char32_t first, char32_t last) const;
  bool at_range() const;

  PatternReader& in_;
  const ClassContext& context_;
};

std::string ClassReader::run() {
  in_.take("[");
  const bool negated = in_.take("^");
  const Content found = content(0);
  std::string pattern = found.pattern(negated, context_.any_case);
  if (!context_.any_case || negated) return pattern;
  for (const CaseFold& fold : case_folds())
    for (const auto& [first, last] : found.ranges)
      if (fold.character >= first && fold.character <= last) in_.unsupported(kFoldsToSeveral);
  if (!found.every_fold) return pattern;
  if (context_.behind) in_.unsupported(kFoldsToSeveral);
  return "(?:" + pattern + fold_alternatives() + ")";
}

/// Up to the closing bracket, which is passed over. The first character of a class is a member even if it is
/// one.
Content ClassReader::content(int depth, bool first) {
  if (depth > kMaxDepth) in_.invalid("its classes are nested too deeply");
  Content found;
  const size_t start = in_.at();
  while (in_.more() && (in_.peek() != ']' || (first && in_.at() == start))) {
    if (in_.take("&&")) {
      if (context_.any_case) in_.unsupported("an intersection of classes without regard to case");
      const Content rest = content(depth + 1, false);
      if (found.empty() || rest.empty()) in_.unsupported("an intersection with an empty class");
      Content both;
      both.others.push_back("(?:(?=" + found.pattern(false, false) + ")" + rest.pattern(false, false) + ")");
      return both;
    }
    item(found, depth);
  }
  if (!in_.take("]")) in_.invalid("a class has no end");
  return found;
}

/// A class within the class.
std::string ClassReader::nested(int depth) {
  in_.take("[");
  const bool negated = in_.take("^");
  const Content found = content(depth + 1);
  if (found.empty()) in_.unsupported("an empty class");
  // Oniguruma takes the complement of all characters beyond ASCII for all of them.
  if (negated && !found.others.empty()) in_.unsupported("a negated class or set in a negated class");
  if (context_.any_case && (found.every_fold || negated || !found.characters.empty()))
    in_.unsupported("a class within a class without regard to case");
  return found.pattern(negated, context_.any_case);
}

/// A '-' that makes a range of the member before it and the one after it.
bool ClassReader::at_range() const {
  return in_.peek() == '-' && in_.peek(1) != ']' && in_.peek(1) != '\0' && !in_.rest().starts_with("-&&");
}

void ClassReader::item(Content& found, int depth) {
  const Member first = member(found, depth);
  if (!at_range()) {
    if (first) add(found, *first, *first);
    return;
  }
  if (!first) in_.unsupported("a '-' after a class");
  in_.take("-");
  if (in_.peek() == '[') in_.unsupported("a class at the end of a range");
  Content at_end;
  const Member last = member(at_end, depth);
  if (!last) in_.invalid("a class stands at the end of a range");
  if (*last < *first) in_.invalid("a range is empty");
  add(found, *first, *last);
  if (at_range()) in_.unsupported("a '-' after a range");
}

ClassReader::Member ClassReader::member(Content& found, int depth) {
  if (in_.rest().starts_with("[:")) {
    posix(found);
    return std::nullopt;
  }
  if (in_.peek() == '[') {
    found.others.push_back(nested(depth));
    return std::nullopt;
  }
  if (in_.take("\\")) return escape(found);
  return in_.take_character();
}

/// [:name:] and [:^name:].
void ClassReader::posix(Content& found) {
  in_.take("[:");
  const bool negated = in_.take("^");
  const size_t end = in_.rest().find(":]");
  const auto set = end == std::string_view::npos ? std::nullopt : posix_set(in_.rest().substr(0, end));
  if (!set) in_.unsupported("a bracket [:...:] with an unknown name");
  in_.go_to(in_.at() + end + 2);
  add(found, *set, negated);
}

ClassReader::Member ClassReader::escape(Content& found) {
  if (!in_.more()) in_.invalid("it ends with a backslash");
  const char32_t c = in_.take_character();
  switch (c) {
    case 'd':
    case 'D':
      add(found, digit_set(), c == 'D');
      return std::nullopt;
    case 's':
      add(found, space_set());
      return std::nullopt;
    case 'S':
      add(found, no_space_set());
      return std::nullopt;
    case 'w':
    case 'W':
      add(found, word_set(Place::brackets), c == 'W');
      return std::nullopt;
    case 'h':
    case 'H':
      add(found, hex_digit_set(), c == 'H');
      return std::nullopt;
    case 'p':
    case 'P': {
      if (in_.peek() != '{') return c;
      bool negated = c == 'P';
      const CharacterSet set = read_property(in_, Place::brackets, negated);
      add(found, set, negated);
      return std::nullopt;
    }
    case 'b':
      return U'\b';
    default:
      return in_.escaped_character(c);
  }
}

void ClassReader::add(Content& found, const CharacterSet& set, bool negated) const {
  if (context_.any_case) {
    if (set.cased == Cased::some || (negated && !set.gained.empty()))
      in_.unsupported("a set of characters by name, without regard to case, that depends on case");
    found.every_fold = found.every_fold || (set.cased == Cased::all) != negated;
  }
  if (negated) {
    found.others.push_back((context_.any_case ? "(?-i:" : "(?:") + bracket(set.members, true) + ")");
    return;
  }
  found.sets += set.members;
  if (context_.any_case) found.sets += set.gained;
}

void ClassReader::add(Content& found, char32_t first, char32_t last) const {
  found.ranges.emplace_back(first, last);
  found.characters += first == last ? quoted(first) : quoted(first) + "-" + quoted(last);
}

}  // namespace

std::string class_pattern(PatternReader& reader, const ClassContext& context) {
  return ClassReader(reader, context).run();
}

std::string set_pattern(const CharacterSet& set, bool negated, bool any_case) {
  const std::string one = bracket(set.members, negated);
  return any_case ? "(?-i:" + one + ")" : one;
}

CharacterSet read_property(PatternReader& reader, Place place, bool& negated) {
  reader.take("{");
  if (reader.take("^")) negated = !negated;
  const auto set = property_set(reader.take_until('}'), place);
  if (!set) reader.unsupported("a property with an unknown name");
  return *set;
}

std::string quoted(char32_t c) {
  const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == ' ';
  std::string text;
  if (c > 0x20 && c < 0x7F && !plain) {
    text += '\\';
  } else if (!plain && c < 0x80) {
    constexpr const char* kDigits = "0123456789abcdef";
    return std::string("\\x{") + kDigits[c / 16] + kDigits[c % 16] + "}";
  }
  append_character(text, c);
  return text;
}

}  // namespace bdh::tokenizers
