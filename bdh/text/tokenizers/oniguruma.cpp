// The rewriting: one pass over the pattern, which keeps track of the last atom so that it can be put in a
// group.
#include "bdh/text/tokenizers/oniguruma.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cctype>
#include <iterator>
#include <vector>

#include "bdh/base/error.h"
#include "bdh/base/printable.h"
#include "bdh/text/tokenizers/unicode.h"

namespace bdh::tokenizers {
namespace {

constexpr int kMaxDepth = 200;  // of groups and classes within one another

// Members of character classes, to stand between brackets.
constexpr const char* kSpace =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{"
    "3000}";
constexpr const char* kNoSpace =
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}"
    "\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}";
constexpr const char* kWord =
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\x{24b6}-\\x{24e9}"
    "\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}";
constexpr const char* kHexDigit = "0-9a-fA-F";
#if PCRE2_MAJOR > 10 || PCRE2_MINOR >= 40
constexpr const char* kAlphabetic = "\\p{Alphabetic}";
constexpr const char* kUpper = "\\p{Uppercase}";
constexpr const char* kLower = "\\p{Lowercase}";
constexpr const char* kScript = "\\p{sc:";
#else
constexpr const char* kAlphabetic = "\\p{L}\\p{Nl}\\p{Mc}";
constexpr const char* kUpper = "\\p{Lu}";
constexpr const char* kLower = "\\p{Ll}";
constexpr const char* kScript = "\\p{";
#endif

struct NamedSet {
  const char* name;
  std::string members;
};

/// Names that PCRE2 does not have or understands otherwise, in lower case without spaces, - and _.
const std::vector<NamedSet>& named_sets() {
  static const std::vector<NamedSet> sets{
      {"alpha", kAlphabetic},
      {"alphabetic", kAlphabetic},
      {"alnum", std::string(kAlphabetic) + "\\p{Nd}"},
      {"digit", "\\p{Nd}"},
      {"space", kSpace},
      {"whitespace", kSpace},
      {"blank", "\\x{9}\\p{Zs}"},
      {"upper", kUpper},
      {"uppercase", kUpper},
      {"lower", kLower},
      {"lowercase", kLower},
      {"punct", "\\p{P}\\p{S}"},
      {"word", kWord},
      {"xdigit", kHexDigit},
      {"cntrl", "\\p{Cc}"},
      {"ascii", "\\x{0}-\\x{7f}"},
      {"any", "\\x{0}-\\x{10ffff}"},
      {"letter", "\\p{L}"},
      {"uppercaseletter", "\\p{Lu}"},
      {"lowercaseletter", "\\p{Ll}"},
      {"titlecaseletter", "\\p{Lt}"},
      {"modifierletter", "\\p{Lm}"},
      {"otherletter", "\\p{Lo}"},
      {"mark", "\\p{M}"},
      {"nonspacingmark", "\\p{Mn}"},
      {"spacingmark", "\\p{Mc}"},
      {"enclosingmark", "\\p{Me}"},
      {"number", "\\p{N}"},
      {"decimalnumber", "\\p{Nd}"},
      {"letternumber", "\\p{Nl}"},
      {"othernumber", "\\p{No}"},
      {"punctuation", "\\p{P}"},
      {"connectorpunctuation", "\\p{Pc}"},
      {"dashpunctuation", "\\p{Pd}"},
      {"openpunctuation", "\\p{Ps}"},
      {"closepunctuation", "\\p{Pe}"},
      {"initialpunctuation", "\\p{Pi}"},
      {"finalpunctuation", "\\p{Pf}"},
      {"otherpunctuation", "\\p{Po}"},
      {"symbol", "\\p{S}"},
      {"mathsymbol", "\\p{Sm}"},
      {"currencysymbol", "\\p{Sc}"},
      {"modifiersymbol", "\\p{Sk}"},
      {"othersymbol", "\\p{So}"},
      {"separator", "\\p{Z}"},
      {"spaceseparator", "\\p{Zs}"},
      {"lineseparator", "\\p{Zl}"},
      {"paragraphseparator", "\\p{Zp}"},
      {"other", "\\p{C}"},
      {"control", "\\p{Cc}"},
      {"format", "\\p{Cf}"},
      {"unassigned", "\\p{Cn}"},
      {"privateuse", "\\p{Co}"},
      {"surrogate", "\\p{Cs}"},
  };
  return sets;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }

std::string set_of(const std::string& members, bool negated) {
  return (negated ? "[^" : "[") + members + "]";
}

/// What a class matches: members of one bracket, and patterns of one character each.
struct Class {
  std::string members;
  std::vector<std::string> others;

  /// A pattern of one character.
  std::string pattern(bool negated) const {
    if (others.empty() && !members.empty()) return set_of(members, negated);
    std::string either = "(?:";
    if (!members.empty()) either += set_of(members, false) + "|";
    for (const std::string& other : others) either += other + "|";
    either.back() = ')';
    return negated ? "(?:(?!" + either + ")(?s:.))" : either;
  }
};

class Rewriting {
 public:
  Rewriting(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}
  std::string run();

 private:
  struct Group {
    size_t start;     // in out_
    int closing = 1;  // brackets to write at its end: one, and one for each (?i) inside
  };

  [[noreturn]] void fail_here(const std::string& what) const {
    fail(ErrorKind::bad_file, where_, ": the regular expression ", printable(in_), " is not valid: ", what,
         " at byte ", at_);
  }
  bool more() const { return at_ < in_.size(); }
  char peek(size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  bool take(std::string_view text) {
    if (in_.substr(at_, text.size()) != text) return false;
    at_ += text.size();
    return true;
  }
  /// What stands before `end`, which is passed over.
  std::string_view take_until(char end) {
    const size_t found = in_.find(end, at_);
    if (found == in_.npos) fail_here(std::string("no '") + end + "' follows");
    const std::string_view text = in_.substr(at_, found - at_);
    at_ = found + 1;
    return text;
  }
  /// The character here, passed over.
  std::string_view take_character() {
    const std::string_view text = in_.substr(at_, character_bytes(in_[at_]));
    at_ += text.size();
    return text;
  }

  void atom(const std::string& text) {
    atom_ = out_.size();
    quantified_ = false;
    out_ += text;
  }
  void piece();
  void open_group();
  void close_group();
  void option_group();
  void quantifier(const std::string& text);
  bool interval();
  void escape();
  std::string property();
  std::string code_point(size_t digits);
  std::string character_escape(char c);
  Class class_content(int depth);
  std::string class_pattern(int depth);
  void class_item(Class& found, int depth, std::string& last);
  void class_escape(Class& found, std::string& last);
  bool posix_bracket(Class& found);

  std::string_view in_;
  const std::string& where_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = std::string::npos;  // where the last atom begins in out_; npos: there is none
  bool quantified_ = false;          // the atom has its quantifier
  std::vector<Group> groups_;
};

std::string Rewriting::run() {
  groups_.push_back({0, 0});
  while (more()) piece();
  if (groups_.size() > 1) fail_here("a group has no end");
  out_.append(static_cast<size_t>(groups_.back().closing), ')');
  return std::move(out_);
}

void Rewriting::piece() {
  const char c = peek();
  switch (c) {
    case '\\':
      return escape();
    case '[':
      return atom(class_pattern(0));
    case '(':
      return open_group();
    case ')':
      return close_group();
    case '*':
    case '+':
    case '?':
      ++at_;
      return quantifier(std::string(1, c));
    case '{':
      if (interval()) return;
      ++at_;
      return atom("\\{");
    case '|':
      ++at_;
      out_ += '|';
      atom_ = std::string::npos;
      return;
    case ']':
    case '}':
      ++at_;
      return atom(std::string("\\") + c);
    default:
      return atom(std::string(take_character()));
  }
}

void Rewriting::open_group() {
  if (groups_.size() > kMaxDepth) fail_here("its groups are nested too deeply");
  ++at_;
  if (peek() == '*')
    fail(ErrorKind::unsupported, where_, ": the regular expression ", printable(in_),
         " has a callout, (*...), which bdh does not support");
  const Group group{out_.size()};
  if (!take("?")) {
    out_ += '(';
  } else if (take("#")) {
    take_until(')');
    return;
  } else if (is_letter(peek()) || peek() == '-') {
    return option_group();
  } else if (take("<") || take("'")) {
    const char opening = in_[at_ - 1];
    if (peek() == '=' || peek() == '!') {
      out_ += std::string("(?<") + peek();
      ++at_;
    } else {
      out_ += concat("(?<", take_until(opening == '<' ? '>' : '\''), ">");
    }
  } else if (std::string_view(":=!>").find(peek()) != std::string_view::npos && more()) {
    out_ += std::string("(?") + peek();
    ++at_;
  } else {
    fail(ErrorKind::unsupported, where_, ": the regular expression ", printable(in_),
         " has a kind of group that bdh does not support, at byte ", at_);
  }
  groups_.push_back(group);
  atom_ = std::string::npos;
}

/// (?i-m:...) is a group; (?i-m) lasts to the end of the group around it, alternatives included.
void Rewriting::option_group() {
  const size_t start = out_.size();
  out_ += "(?";
  while (more() && peek() != ':' && peek() != ')') {
    const char option = in_[at_++];
    if (std::string_view("imx-").find(option) == std::string_view::npos)
      fail_here(std::string("'") + option + "' is no option");
    out_ += option == 'm' ? 's' : option;
  }
  if (!more()) fail_here("a group has no end");
  out_ += ':';
  if (in_[at_++] == ':') {
    groups_.push_back({start});
  } else {
    ++groups_.back().closing;
    if (groups_.back().closing > kMaxDepth) fail_here("it has too many options");
  }
  atom_ = std::string::npos;
}

void Rewriting::close_group() {
  if (groups_.size() == 1) fail_here("')' closes no group");
  ++at_;
  out_.append(static_cast<size_t>(groups_.back().closing), ')');
  atom_ = groups_.back().start;
  quantified_ = false;
  groups_.pop_back();
}

/// A quantifier of a quantified atom repeats the whole.
void Rewriting::quantifier(const std::string& text) {
  if (atom_ == std::string::npos) fail_here("there is nothing to repeat");
  if (quantified_) {
    out_.insert(atom_, "(?:");
    out_ += ')';
  }
  out_ += text;
  quantified_ = true;
  const bool interval = text.back() == '}';
  const bool fixed = interval && text.find(',') == std::string::npos;
  if (peek() == '?' && !fixed) {
    out_ += '?';
    ++at_;
  } else if (peek() == '+' && !interval) {
    out_ += '+';
    ++at_;
  }
}

/// {n}, {n,}, {n,m} and {,m}; anything else is text.
bool Rewriting::interval() {
  const size_t end = in_.find('}', at_);
  if (end == in_.npos || atom_ == std::string::npos) return false;
  const std::string_view inside = in_.substr(at_ + 1, end - at_ - 1);
  const size_t comma = std::min(inside.find(','), inside.size());
  const std::string_view low = inside.substr(0, comma),
                         high = inside.substr(std::min(comma + 1, inside.size()));
  const auto number = [](std::string_view text) { return std::all_of(text.begin(), text.end(), is_digit); };
  if (!number(low) || !number(high) || (low.empty() && high.empty())) return false;
  at_ = end + 1;
  std::string text = concat("{", low.empty() ? "0" : low);
  if (comma < inside.size()) text += "," + std::string(high);
  quantifier(text + "}");
  return true;
}

/// As many hexadecimal digits, or {...}, as \x{...}.
std::string Rewriting::code_point(size_t digits) {
  std::string_view text;
  if (take("{")) {
    text = take_until('}');
  } else {
    size_t length = 0;
    while (length < digits && std::isxdigit(static_cast<unsigned char>(peek(length)))) ++length;
    text = in_.substr(at_, length);
    at_ += length;
  }
  const bool valid = !text.empty() && text.size() <= 8 && std::all_of(text.begin(), text.end(), [](char c) {
    return std::isxdigit(static_cast<unsigned char>(c)) != 0;
  });
  if (!valid) fail_here("a character's number is not hexadecimal");
  return concat("\\x{", text, "}");
}

/// After the backslash: an escape for one character, inside a class or outside. `c` is passed over already.
std::string Rewriting::character_escape(char c) {
  switch (c) {
    case 'x':
      return code_point(2);
    case 'u':
      return code_point(4);
    case 't':
    case 'n':
    case 'r':
    case 'f':
    case 'a':
    case 'e':
      return std::string("\\") + c;
    case 'v':
      return "\\x{b}";
    default:
      break;
  }
  if (is_letter(c)) return std::string(1, c);
  if (static_cast<unsigned char>(c) < 0x80) return std::string("\\") + c;
  --at_;
  return std::string(take_character());
}

/// After \p or \P: members of a class, to be negated if it returns them with '^' in front.
std::string Rewriting::property() {
  const bool negated = in_[at_ - 1] == 'P';
  ++at_;
  const bool caret = take("^");
  const std::string_view written = take_until('}');
  std::string plain;
  for (const char c : written)
    if (c != ' ' && c != '-' && c != '_') plain += lower(c);
  const bool valid = !plain.empty() && std::all_of(plain.begin(), plain.end(),
                                                   [](char c) { return is_letter(c) || is_digit(c); });
  if (!valid) fail_here("a property has no name");
  std::string members;
  const auto& sets = named_sets();
  const auto found =
      std::find_if(sets.begin(), sets.end(), [&](const NamedSet& set) { return set.name == plain; });
  if (found != sets.end()) {
    members = found->members;
  } else {  // a category (L, Lu) or a script (Han, Old_Italic)
    std::string name;
    bool first = true;
    for (const char c : written) {
      if (c == ' ' || c == '-' || c == '_') {
        name += '_';
        first = true;
      } else {
        name += first ? upper(c) : lower(c);
        first = false;
      }
    }
    // Since 10.40 a script's name alone means its extensions, too.
    members = concat(name.size() > 2 ? kScript : "\\p{", name, "}");
  }
  return (negated != caret ? "^" : "") + members;
}

void Rewriting::escape() {
  ++at_;
  if (!more()) fail_here("it ends with a backslash");
  const char c = in_[at_++];
  const std::string word = set_of(kWord, false);
  switch (c) {
    case 's':
    case 'S':
      return atom(set_of(kSpace, c == 'S'));
    case 'w':
    case 'W':
      return atom(set_of(kWord, c == 'W'));
    case 'h':
    case 'H':
      return atom(set_of(kHexDigit, c == 'H'));
    case 'b':
      return atom("(?:(?<=" + word + ")(?!" + word + ")|(?<!" + word + ")(?=" + word + "))");
    case 'B':
      return atom("(?:(?<=" + word + ")(?=" + word + ")|(?<!" + word + ")(?!" + word + "))");
    case 'O':
      return atom("(?s:.)");
    case 'k':
    case 'g':
      if (peek() != '<') break;
      return atom(std::string("\\") + c + std::string(take_until('>')) + ">");
    case 'p':
    case 'P':
      if (peek() != '{') break;
      return atom(concat("[", property(), "]"));
    default:
      if (is_digit(c) || std::string_view("dDAzZGRXKN").find(c) != std::string_view::npos)
        return atom(std::string("\\") + c);
      break;
  }
  atom(character_escape(c));
}

std::string Rewriting::class_pattern(int depth) {
  if (depth > kMaxDepth) fail_here("its classes are nested too deeply");
  ++at_;
  const bool negated = take("^");
  Class found = class_content(depth);
  ++at_;
  return found.pattern(negated);
}

/// Up to the closing bracket, which is left standing.
Class Rewriting::class_content(int depth) {
  Class found;
  std::string last;  // the member before, if it is a single character: a range may begin with it
  const size_t start = at_;
  while (more() && (peek() != ']' || at_ == start)) {
    if (take("&&")) {
      if (depth > kMaxDepth) fail_here("its classes are nested too deeply");
      const Class rest = class_content(depth + 1);
      if ((found.members + rest.members).empty() && found.others.empty()) fail_here("a class is empty");
      const std::string both = "(?:(?=" + found.pattern(false) + ")" + rest.pattern(false) + ")";
      found = {{}, {both}};
      break;
    }
    class_item(found, depth, last);
  }
  if (!more()) fail_here("a class has no end");
  if (found.members.empty() && found.others.empty()) fail_here("a class is empty");
  return found;
}

void Rewriting::class_item(Class& found, int depth, std::string& last) {
  if (peek() == '[') {
    last.clear();
    if (!posix_bracket(found)) found.others.push_back(class_pattern(depth + 1));
    return;
  }
  if (peek() == '\\') return class_escape(found, last);
  const bool range =
      peek() == '-' && !last.empty() && peek(1) != ']' && peek(1) != '[' && at_ + 1 < in_.size();
  if (!range) {
    const std::string_view c = take_character();
    last = std::string_view("-]^&").find(c) != std::string_view::npos ? concat("\\", c) : std::string(c);
    found.members += last;
    return;
  }
  ++at_;
  std::string end;
  if (peek() == '\\') {
    Class upper_end;
    class_escape(upper_end, end);
    if (end.empty()) fail_here("a class stands at the end of a range");
    found.members += "-" + end;
  } else {
    const std::string_view c = take_character();
    found.members += concat("-", c == "-" || c == "^" ? "\\" : "", c);
  }
  last.clear();
}

/// [:name:] and [:^name:].
bool Rewriting::posix_bracket(Class& found) {
  if (peek(1) != ':') return false;
  const size_t end = in_.find(":]", at_ + 2);
  if (end == in_.npos) return false;
  std::string_view name = in_.substr(at_ + 2, end - at_ - 2);
  const bool negated = name.starts_with('^');
  if (negated) name.remove_prefix(1);
  const auto& sets = named_sets();
  const auto set = std::find_if(sets.begin(), sets.end(), [&](const NamedSet& s) { return s.name == name; });
  if (set == sets.end()) return false;
  at_ = end + 2;
  if (negated) {
    found.others.push_back(set_of(set->members, true));
  } else {
    found.members += set->members;
  }
  return true;
}

void Rewriting::class_escape(Class& found, std::string& last) {
  ++at_;
  if (!more()) fail_here("it ends with a backslash");
  const char c = in_[at_++];
  last.clear();
  switch (c) {
    case 'd':
    case 'D':
      found.members += std::string("\\") + c;
      return;
    case 's':
    case 'S':
      found.members += c == 's' ? kSpace : kNoSpace;
      return;
    case 'w':
      found.members += kWord;
      return;
    case 'h':
      found.members += kHexDigit;
      return;
    case 'W':
    case 'H':
      found.others.push_back(set_of(c == 'W' ? kWord : kHexDigit, true));
      return;
    case 'p':
    case 'P': {
      if (peek() != '{') break;
      const std::string members = property();
      if (members.starts_with('^')) {
        found.others.push_back("[" + members + "]");
      } else {
        found.members += members;
      }
      return;
    }
    case 'b':
      last = "\\x{8}";
      break;
    default:
      break;
  }
  if (last.empty()) last = character_escape(c);
  found.members += last;
}

}  // namespace

std::string pcre2_pattern(std::string_view pattern, const std::string& where) {
  return Rewriting(pattern, where).run();
}

}  // namespace bdh::tokenizers
