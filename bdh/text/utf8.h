// UTF-8 as a stream of bytes becomes it: characters never split, what is invalid replaced.
#pragma once

#include <string>
#include <string_view>

namespace bdh {

/// Holds back the bytes of an unfinished UTF-8 character. What can never become valid is replaced by U+FFFD,
/// one for each longest beginning of a character (the Unicode standard's practice, and Python's
/// errors="replace"); where the bytes were cut into pieces makes no difference.
class Utf8Stream {
 public:
  /// Appends bytes; returns what is complete.
  std::string push(std::string_view bytes);
  /// What is left at the end: nothing, or U+FFFD for an unfinished character.
  std::string finish();

 private:
  std::string pending_;
};

/// The bytes as text: what Utf8Stream makes of them.
std::string valid_utf8(std::string_view bytes);

}  // namespace bdh
