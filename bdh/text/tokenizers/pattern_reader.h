// A regular expression in Oniguruma's Ruby syntax, read character by character, and its escapes for one
// character.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace bdh::tokenizers {

class PatternReader {
 public:
  /// Both must outlive the reader. `where` names the expression in errors.
  PatternReader(std::string_view pattern, const std::string& where) : in_(pattern), where_(where) {}

  bool more() const { return at_ < in_.size(); }
  size_t at() const { return at_; }
  void go_to(size_t at) { at_ = at; }
  std::string_view rest() const { return in_.substr(at_); }
  /// The byte here or after it; NUL past the end.
  char peek(size_t ahead = 0) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  bool take(std::string_view text);
  char32_t take_character();
  /// What stands before `end`, which is passed over.
  std::string_view take_until(char end);
  std::string_view take_digits();

  /// The character that \c stands for: after the backslash and `c`, which is no class, anchor or reference.
  char32_t escaped_character(char32_t c);

  /// Error(bad_file): the `tokenizers` package refuses it, too.
  [[noreturn]] void invalid(std::string_view what) const;
  /// Error(unsupported): the package may know it.
  [[noreturn]] void unsupported(std::string_view what) const;

 private:
  char32_t hexadecimal(size_t least, size_t most);
  char32_t braced_code();
  char32_t octal(char32_t first);
  char32_t control();
  char32_t one_byte(char32_t code) const;

  std::string_view in_;
  const std::string& where_;
  size_t at_ = 0;
};

}  // namespace bdh::tokenizers
