// Bytes as tokens.
#include "bdh/text/tokenizer.h"

#include "bdh/base/error.h"

namespace bdh {

std::vector<int32_t> ByteTokenizer::encode(std::string_view text) const {
  std::vector<int32_t> tokens;
  tokens.reserve(text.size());
  for (const char c : text) tokens.push_back(static_cast<unsigned char>(c));
  return tokens;
}

std::string ByteTokenizer::decode(std::span<const int32_t> tokens) const {
  std::string bytes;
  bytes.reserve(tokens.size());
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocab_size()) {
      fail(ErrorKind::invalid_argument, "token ", token, " is no byte: it is outside [0, ", vocab_size(),
           ")");
    }
    bytes.push_back(static_cast<char>(token));
  }
  return bytes;
}

}  // namespace bdh
