// The rewriting: one pass over the expression, which keeps track of the last atom so that it can be put in a
// group. A second pass knows the names that the first has found.
#include "bdh/text/tokenizers/oniguruma.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/text/tokenizers/case_folds.h"
#include "bdh/text/tokenizers/character_class.h"
#include "bdh/text/tokenizers/pattern_reader.h"
#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

constexpr size_t kMaxDepth = 200;  // of groups within one another
constexpr int kMaxGroups = 10'000;
constexpr unsigned kMaxRepeat = 100'000, kMaxRepeatHere = 65'535;  // Oniguruma's, PCRE2's
constexpr unsigned kEndless = ~0U;
constexpr const char* kAnyCharacter = "(?s:.)";
constexpr const char* kLineBreak = "(?>\\x{d}\\x{a}|[\\x{a}-\\x{d}\\x{85}\\x{2028}\\x{2029}])";
constexpr size_t kNowhere = std::string::npos;

struct Options {
  bool any_case = false, dot_all = false, extended = false;
};

/// Numbers of the groups of each name, where only they are counted.
using GroupNames = std::map<std::string, std::vector<int>, std::less<>>;

class Rewriting {
 public:
  Rewriting(std::string_view pattern, const std::string& where, const GroupNames& known)
      : in_(pattern, where), known_(known) {}
  Pcre2Pattern run();
  const GroupNames& names() const { return names_; }

 private:
  struct Group {
    size_t start;
    Options options;  // those around it
    int closing = 1;  // brackets to write at its end: one, and one for each (?i) inside
    bool repeatable = true;
    bool behind = false;        // a lookbehind, or in one
    bool plain = false;         // (?:...): strings go on across its ends
    int capture = 0;            // its number
    bool captures = false;      // a group in it captures, or itself
    bool filled = false;        // an atom before the last of this branch is never empty
    bool empty_branch = false;  // a branch before may match nothing
    bool has_atom = false;      // this branch
    bool blank_branch = false;  // a branch before has no atom
  };

  void atom(const std::string& text);
  void any_character(bool line_breaks);
  bool leading() const;
  void anchor_atom(const std::string& text);
  void maybe_empty_atom(const std::string& text, bool captures);
  void settle();
  void end_branch();
  void literal(char32_t c);
  void remember(const std::u32string& before, char32_t last);
  bool folds_with_others(char32_t c);
  void piece();
  bool skip_blank();
  void comment();
  void open_group();
  void push(const char* opening, const Group& group);
  void named_group(char end);
  void close_group();
  void option_group();
  void read_options();
  void repetition();
  void quantifier(const std::string& text, unsigned least, unsigned most, bool may_be_possessive);
  bool interval();
  unsigned bound(std::string_view digits) const;
  void escape();
  bool anchor(char32_t c);
  bool set_escape(char32_t c);
  bool reference(char32_t c);
  bool numbered_reference();
  void refer_back(int group);
  void named_reference();
  void call();
  int relative(std::string_view number) const;
  std::string_view bracketed_name();

  PatternReader in_;
  const GroupNames& known_;
  GroupNames names_;
  std::string out_;
  Options options_;
  size_t atom_ = kNowhere;   // where the last atom begins in out_
  bool repeatable_ = false;  // the atom is no anchor
  bool quantified_ = false;  // the atom has its quantifier
  bool empty_ = false;       // the atom may match nothing
  bool captures_inside_ = false;
  bool any_ = false;  // the atom is any character
  // What the pattern has:
  bool atomic_ = false, lookahead_ = false, boundary_ = false;
  std::u32string string_;  // the last two characters without regard to case that stand side by side
  size_t string_atom_ = kNowhere;
  bool merged_ = false;  // the last of them are one atom
  std::vector<Group> groups_;
  int captures_ = 0, named_ = 0, highest_reference_ = 0;
  bool refers_ = false, calls_ = false, calls_names_ = false;
};

Pcre2Pattern Rewriting::run() {
  groups_.push_back({0, {}, 0});
  while (in_.more()) piece();
  if (groups_.size() > 1) in_.invalid("a group has no end");
  if (highest_reference_ > captures_) in_.invalid("it refers to a group that is not there");
  if (calls_names_ && names_.empty()) in_.invalid("it calls a group that is not there");
  if (refers_ && calls_) in_.unsupported("references and calls of groups");
  out_.append(static_cast<size_t>(groups_.back().closing), ')');
  return {std::move(out_), atomic_, lookahead_ || boundary_};
}

/// The last atom cannot change any more.
void Rewriting::settle() {
  if (atom_ != kNowhere) {
    groups_.back().has_atom = true;
    groups_.back().filled = groups_.back().filled || !empty_;
  }
  atom_ = kNowhere;
  string_.clear();
}

void Rewriting::end_branch() {
  settle();
  Group& group = groups_.back();
  group.empty_branch = group.empty_branch || !group.filled;
  group.blank_branch = group.blank_branch || !group.has_atom;
  group.filled = group.has_atom = false;
}

void Rewriting::atom(const std::string& text) {
  settle();
  atom_ = out_.size();
  repeatable_ = true;
  quantified_ = merged_ = empty_ = captures_inside_ = false;
  any_ = false;
  out_ += text;
}

void Rewriting::any_character(bool line_breaks) {
  atom(line_breaks ? kAnyCharacter : "[^\\x{a}]");
  any_ = true;
}

/// Whether what stands before the last atom matches nothing but the empty text.
bool Rewriting::leading() const {
  return std::none_of(groups_.begin(), groups_.end(), [](const Group& group) { return group.filled; });
}

void Rewriting::anchor_atom(const std::string& text) {
  atom(text);
  repeatable_ = false;
  empty_ = true;
}

void Rewriting::maybe_empty_atom(const std::string& text, bool captures) {
  atom(text);
  empty_ = true;
  captures_inside_ = captures;
}

/// A character. Without regard to case, two that a third one folds to are matched by it, too.
void Rewriting::literal(char32_t c) {
  if (!options_.any_case) return atom(quoted(c));
  if (folds_with_others(c)) return;
  const std::u32string before = std::move(string_);
  atom(quoted(c));
  remember(before, case_folded(c));
  string_atom_ = atom_;
}

void Rewriting::remember(const std::u32string& before, char32_t last) {
  string_ = before.substr(before.size() > 1 ? before.size() - 1 : 0) + last;
}

bool Rewriting::folds_with_others(char32_t c) {
  const char32_t last = case_folded(c);
  std::u32string pair;
  std::string either;
  for (const CaseFold& fold : case_folds()) {
    if (fold.character == c) in_.unsupported("a character that is several ones without regard to case");
    const std::u32string& to = fold.folded;
    if (!(string_ + last).ends_with(to)) continue;
    pair = to;
    either += '|' + quoted(fold.character);
  }
  if (pair.empty()) return false;
  const bool side_by_side = string_atom_ == atom_ && atom_ != kNowhere && !quantified_ && !merged_;
  const bool alone = std::string_view("*+?{").find(in_.peek()) == std::string_view::npos || !in_.more();
  if (pair.size() != 2 || !side_by_side || !alone || options_.extended || groups_.back().behind)
    in_.unsupported("characters that another one stands for without regard to case");
  out_.insert(atom_, "(?:");
  out_ += quoted(c) + either + ")";
  remember(string_, last);
  merged_ = true;
  return true;
}

void Rewriting::piece() {
  if (options_.extended && skip_blank()) return;
  switch (in_.peek()) {
    case '\\':
      return escape();
    case '[':
      return atom(class_pattern(in_, {options_.any_case, groups_.back().behind}));
    case '(':
      return open_group();
    case ')':
      return close_group();
    case '*':
    case '+':
    case '?':
      return repetition();
    case '{':
      if (interval()) return;
      break;
    case '|':
      in_.take("|");
      out_ += '|';
      return end_branch();
    case '^':
    case '$':
      return anchor_atom(std::string(1, static_cast<char>(in_.take_character())));
    case '.':
      in_.take(".");
      return any_character(options_.dot_all);
    default:
      break;
  }
  literal(in_.take_character());
}

/// With (?x): white space, and from # to the end of the line.
bool Rewriting::skip_blank() {
  if (in_.take("#")) {
    while (in_.more() && in_.take_character() != '\n') continue;
    return true;
  }
  const bool blank = std::string_view("\t\n\f\r ").find(in_.peek()) != std::string_view::npos && in_.more();
  if (blank) in_.take_character();
  return blank;
}

void Rewriting::comment() {
  while (in_.more() && in_.peek() != ')') {
    if (in_.take("\\") && !in_.more()) break;
    in_.take_character();
  }
  if (!in_.take(")")) in_.invalid("a comment has no end");
}

void Rewriting::open_group() {
  in_.take("(");
  if (groups_.size() > kMaxDepth) in_.invalid("its groups are nested too deeply");
  Group group{out_.size(), options_};
  group.behind = groups_.back().behind;
  if (in_.peek() == '*') in_.unsupported("a callout, (*...)");
  if (!in_.take("?")) {
    if (!known_.empty()) {  // with names, only they capture
      push("(?:", group);
    } else {
      group.capture = ++captures_;
      push("(", group);
    }
    return;
  }
  if (in_.take("#")) return comment();
  if (in_.take(":")) {
    group.plain = true;
    const std::u32string before = string_;
    push("(?:", group);
    string_ = before;
    return;
  }
  if (in_.take(">")) {
    atomic_ = true;
    return push("(?>", group);
  }
  group.repeatable = false;
  if (in_.take("=")) {
    lookahead_ = true;
    return push("(?=", group);
  }
  if (in_.take("!")) return push("(?!", group);
  group.behind = true;
  if (in_.take("<=")) return push("(?<=", group);
  if (in_.take("<!")) return push("(?<!", group);
  if (in_.take("<")) return named_group('>');
  if (in_.take("'")) return named_group('\'');
  option_group();
}

void Rewriting::push(const char* opening, const Group& group) {
  settle();
  if (captures_ > kMaxGroups) in_.unsupported("too many groups");
  out_ += opening;
  groups_.push_back(group);
}

void Rewriting::named_group(char end) {
  Group group{out_.size(), options_};
  group.behind = groups_.back().behind;
  const std::string name(in_.take_until(end));
  const bool word = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return c == '_' || c >= 0x80 || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z');
  });
  if (name.empty() || !word || (name[0] >= '0' && name[0] <= '9'))
    in_.invalid("a group's name is not a word");
  group.capture = ++captures_;
  names_[name].push_back(++named_);
  push("(", group);
}

void Rewriting::read_options() {
  bool on = true;
  while (in_.more() && in_.peek() != ':' && in_.peek() != ')') {
    const char32_t option = in_.take_character();
    if (option == '-') {
      on = false;
    } else if (option == 'i') {
      options_.any_case = on;
    } else if (option == 'm') {
      options_.dot_all = on;
    } else if (option == 'x') {
      options_.extended = on;
    } else {
      in_.unsupported("a kind of group or an option");
    }
  }
  if (!in_.more()) in_.invalid("a group has no end");
}

/// (?i-m:...) is a group; (?i-m) lasts to the end of the group around it, alternatives included.
void Rewriting::option_group() {
  Group group{out_.size(), options_};
  group.behind = groups_.back().behind;
  read_options();
  const char* opening = options_.any_case ? "(?i:" : "(?-i:";
  if (in_.take(":")) return push(opening, group);
  in_.take(")");
  settle();
  out_ += opening;
  if (++groups_.back().closing > static_cast<int>(kMaxDepth)) in_.unsupported("too many options");
}

void Rewriting::close_group() {
  if (groups_.size() == 1) in_.invalid("')' closes no group");
  in_.take(")");
  const std::u32string string = string_;
  end_branch();
  const Group group = groups_.back();
  groups_.pop_back();
  if (group.behind && !group.repeatable && group.blank_branch) in_.unsupported("a lookbehind of nothing");
  out_.append(static_cast<size_t>(group.closing), ')');
  atom_ = group.start;
  repeatable_ = group.repeatable;
  quantified_ = merged_ = false;
  empty_ = group.empty_branch || !group.repeatable;
  captures_inside_ = group.captures || group.capture > 0;
  groups_.back().captures = groups_.back().captures || captures_inside_;
  options_ = group.options;
  if (group.plain && group.closing == 1) string_ = string;
}

/// *, + or ?, with the ? or + that may follow it.
void Rewriting::repetition() {
  const std::string text(1, static_cast<char>(in_.take_character()));
  quantifier(text, text == "+" ? 1 : 0, text == "?" ? 1 : kEndless, true);
}

/// A quantifier of a quantified atom repeats the whole.
void Rewriting::quantifier(const std::string& text, unsigned least, unsigned most, bool may_be_possessive) {
  if (atom_ == kNowhere) in_.invalid("there is nothing to repeat");
  if (!repeatable_) in_.invalid("an anchor cannot be repeated");
  if (merged_) in_.unsupported("a repeated character that is one with another without regard to case");
  if (empty_ && captures_inside_ && most > 1)
    in_.unsupported("a repeated group that captures and may be empty");
  if (quantified_) {
    out_.insert(atom_, "(?:");
    out_ += ')';
  }
  // Oniguruma then looks at the beginnings of lines, or of the text, alone.
  const bool anchored = any_ && (boundary_ || lookahead_);
  if (anchored && most == kEndless && leading() && in_.peek() != '?')
    in_.unsupported("any character without end after nothing but a word's boundary or a lookahead");
  const bool group = out_.back() == ')';
  if (most == 0 && group) {  // PCRE2 10.42 takes what is anchored in it for an anchor
    if (captures_inside_) in_.unsupported("a group that captures, repeated no times");
    out_.resize(atom_);
    out_ += "(?:)";
  }
  out_ += text;
  quantified_ = true;
  empty_ = empty_ || least == 0;
  string_.clear();
  const bool fixed = text.back() == '}' && text.find(',') == std::string::npos;
  if (!fixed && in_.take("?")) {
    out_ += '?';
  } else if (may_be_possessive && in_.take("+")) {
    out_ += '+';
    atomic_ = atomic_ || group;
  }
}

unsigned Rewriting::bound(std::string_view digits) const {
  unsigned value = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (!digits.empty() && (read.ec != std::errc() || value > kMaxRepeat))
    in_.invalid("a repetition is too long");
  if (value > kMaxRepeatHere) in_.unsupported("a repetition of more than 65535 times");
  return value;
}

/// {n}, {n,}, {n,m} and {,m}; {m,n} with the larger number first is possessive; anything else is text.
bool Rewriting::interval() {
  const size_t start = in_.at();
  in_.take("{");
  const std::string_view low = in_.take_digits();
  const bool comma = in_.take(",");
  const std::string_view high = comma ? in_.take_digits() : std::string_view();
  if (!in_.take("}") || (low.empty() && high.empty())) {
    in_.go_to(start);
    return false;
  }
  const unsigned least = bound(low);
  const unsigned most = !comma ? least : high.empty() ? kEndless : bound(high);
  std::string text = concat("{", least);
  const bool swapped = most < least;
  if (swapped) {
    text = concat("{", most, ",", least);
  } else if (comma) {
    text += high.empty() ? std::string(",") : concat(",", most);
  }
  if (swapped && in_.peek() == '?') in_.unsupported("a repetition with its numbers the wrong way round");
  quantifier(text + "}", std::min(least, most), std::max(least, most), false);
  if (swapped) {
    out_ += '+';
    atomic_ = true;
  }
  return true;
}

void Rewriting::escape() {
  in_.take("\\");
  if (!in_.more()) in_.invalid("it ends with a backslash");
  if (numbered_reference()) return;
  const char32_t c = in_.take_character();
  if (anchor(c) || set_escape(c) || reference(c)) return;
  literal(in_.escaped_character(c));
}

bool Rewriting::anchor(char32_t c) {
  boundary_ = boundary_ || c == 'b' || c == 'B';
  const std::string word = set_pattern(word_set(Place::outside), false, options_.any_case);
  switch (c) {
    case 'b':
      anchor_atom("(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))");
      return true;
    case 'B':
      anchor_atom("(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))");
      return true;
    case 'A':
    case 'z':
    case 'Z':
    case 'G':
    case 'K':
      anchor_atom(std::string("\\") + static_cast<char>(c));
      return true;
    case 'y':
    case 'Y':
      in_.unsupported("a boundary of grapheme clusters, \\y or \\Y");
    default:
      return false;
  }
}

bool Rewriting::set_escape(char32_t c) {
  const bool capital = c >= 'A' && c <= 'Z';
  const auto set = [&](const CharacterSet& found) {
    atom(set_pattern(found, capital, options_.any_case));
    return true;
  };
  switch (c) {
    case 'd':
    case 'D':
      return set(digit_set());
    case 's':
    case 'S':
      return set(space_set());
    case 'w':
    case 'W':
      return set(word_set(Place::outside));
    case 'h':
    case 'H':
      return set(hex_digit_set());
    case 'N':
      any_character(false);
      return true;
    case 'O':
      any_character(true);
      return true;
    case 'R':
      atomic_ = true;
      atom(kLineBreak);
      return true;
    case 'X':
      in_.unsupported("a grapheme cluster, \\X");
    case 'p':
    case 'P': {
      if (in_.peek() != '{') return false;
      bool negated = capital;
      const CharacterSet found = read_property(in_, Place::outside, negated);
      atom(set_pattern(found, negated, options_.any_case));
      return true;
    }
    default:
      return false;
  }
}

/// \1 to \9, and more digits if there are as many groups before it.
bool Rewriting::numbered_reference() {
  const size_t start = in_.at();
  const std::string_view digits = in_.take_digits();
  int number = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (digits.empty() || digits[0] == '0' || read.ec != std::errc() || (number > 9 && number > captures_)) {
    in_.go_to(start);
    return false;
  }
  if (!known_.empty()) in_.invalid("it refers to a group by its number where groups have names");
  refer_back(number);
  return true;
}

void Rewriting::refer_back(int group) {
  if (options_.any_case) in_.unsupported("a reference to a group without regard to case");
  const bool counted = names_.empty() || !known_.empty();  // the first pass does not know numbers among names
  const bool open =
      std::any_of(groups_.begin(), groups_.end(), [&](const Group& g) { return g.capture == group; });
  if (counted && (open || group > captures_)) in_.unsupported("a reference to a group that is not complete");
  if (counted) highest_reference_ = std::max(highest_reference_, group);
  refers_ = true;
  maybe_empty_atom(concat("\\g{", group, "}"), false);
}

bool Rewriting::reference(char32_t c) {
  if ((c != 'k' && c != 'g') || (in_.peek() != '<' && in_.peek() != '\'')) return false;
  c == 'k' ? named_reference() : call();
  return true;
}

/// The group that a number stands for; -1 is the last before this place. 0: it is no number.
int Rewriting::relative(std::string_view number) const {
  int value = 0;
  const bool plus = number.starts_with('+');
  if (plus) number.remove_prefix(1);
  const auto read = std::from_chars(number.data(), number.data() + number.size(), value);
  if (number.empty() || read.ec != std::errc() || read.ptr != number.data() + number.size()) return 0;
  if (!known_.empty()) in_.invalid("it refers to a group by its number where groups have names");
  const int group = value < 0 ? captures_ + 1 + value : plus ? captures_ + value : value;
  if (group < 1) in_.unsupported("a reference to the whole expression, or to a group that is not there");
  return group;
}

std::string_view Rewriting::bracketed_name() {
  if (in_.take("<")) return in_.take_until('>');
  in_.take("'");
  return in_.take_until('\'');
}

void Rewriting::named_reference() {
  const std::string_view name = bracketed_name();
  const int number = relative(name);
  if (number > 0) return refer_back(number);
  const auto found = names_.find(name);
  if (found == names_.end()) in_.unsupported("a reference to a group by an unknown name or a level");
  if (found->second.size() > 1) in_.unsupported("a reference to several groups of one name");
  refer_back(found->second[0]);
}

void Rewriting::call() {
  const std::string_view name = bracketed_name();
  const int number = relative(name);
  if (number == 0) calls_names_ = true;
  const auto found = known_.find(name);
  if (number == 0 && found == known_.end() && !known_.empty())
    in_.invalid("it calls a group that is not there");
  if (found != known_.end() && found->second.size() > 1)
    in_.unsupported("a call of several groups of one name");
  const int group = number > 0 ? number : found == known_.end() ? 1 : found->second[0];
  calls_ = true;
  if (names_.empty() || !known_.empty()) highest_reference_ = std::max(highest_reference_, group);
  maybe_empty_atom(concat("(?", group, ")"), true);
}

}  // namespace

Pcre2Pattern pcre2_pattern(std::string_view pattern, const std::string& where) {
  const GroupNames none;
  Rewriting first(pattern, where, none);
  Pcre2Pattern rewritten = first.run();
  if (first.names().empty()) return rewritten;
  return Rewriting(pattern, where, first.names()).run();
}

}  // namespace bdh::tokenizers
