// Token numbers as people give them on a command line or in a file.
#include "tools/token_numbers.h"

#include <algorithm>
#include <charconv>

#include "bdh/base/error.h"

namespace bdh::tools {

namespace {

bool separates(char c) { return c == ',' || c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

}  // namespace

std::vector<int32_t> parse_tokens(std::string_view text) {
  std::vector<int32_t> tokens;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at != end) {
    if (separates(*at)) {
      ++at;
      continue;
    }
    int32_t token = 0;
    const auto [next, error] = std::from_chars(at, end, token);
    if (error != std::errc() || (next != end && !separates(*next))) {
      const std::string_view word(at, static_cast<size_t>(std::find_if(at, end, separates) - at));
      fail(ErrorKind::invalid_argument, "token ", tokens.size(), " is '", word.substr(0, 32),
           "', not a token number; write them as 84,111,32");
    }
    tokens.push_back(token);
    at = next;
  }
  if (tokens.empty()) fail(ErrorKind::invalid_argument, "no tokens given; write them as --tokens 84,111,32");
  return tokens;
}

void require_in_vocabulary(std::span<const int32_t> tokens, int64_t vocabulary) {
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] < 0 || tokens[i] >= vocabulary)
      fail(ErrorKind::invalid_argument, "token ", i, " is ", tokens[i], ", outside the vocabulary 0 to ",
           vocabulary - 1);
}

}  // namespace bdh::tools
