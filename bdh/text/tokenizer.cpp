// What tokenizers have in common, and bytes as tokens.
#include "bdh/text/tokenizer.h"

#include "bdh/base/error.h"
#include "bdh/text/utf8.h"

namespace bdh {
namespace {

/// Tokens that stand for bytes on their own.
class ByteStream : public DecodeStream {
 public:
  explicit ByteStream(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  std::string push(int32_t token) override { return characters_.push(tokenizer_.decode({&token, 1})); }
  std::string finish() override { return characters_.finish(); }

 private:
  const Tokenizer& tokenizer_;
  Utf8Stream characters_;
};

}  // namespace

std::vector<int32_t> Tokenizer::encode_with(const EncodeOptions&, std::string_view text) const {
  return encode(text);
}

std::string Tokenizer::decode_text(std::span<const int32_t> tokens) const { return decode(tokens); }

std::unique_ptr<DecodeStream> Tokenizer::decode_stream(bool) const {
  return std::make_unique<ByteStream>(*this);
}

std::optional<std::string> Tokenizer::token_text(int32_t token) const {
  if (token < 0 || token >= vocab_size()) return {};
  return decode({&token, 1});
}

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
