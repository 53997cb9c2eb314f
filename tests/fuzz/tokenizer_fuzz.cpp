// Any bytes as tokenizer.json: refused in words, or a tokenizer that encodes any text, decodes what came of
// it, and streams the same text.
#include <cstdlib>
#include <string>
#include <string_view>

#include "bdh/base/error.h"
#include "bdh/text/tokenizers/tokenizer_json.h"
#include "bdh/text/utf8.h"

namespace {

constexpr std::string_view kTexts[] = {"", "To be, or not to be: 3.14 don't\n\n  x",
                                       "\xE6\xBC\xA2 \xC3\xA9 e\xCC\x81 \xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD<s>",
                                       "\xFF broken \xE2\x82 \x01 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

void check(const bdh::Tokenizer& tokenizer, std::string_view text) {
  bdh::EncodeOptions options;
  options.special_tokens = true;
  options.limits = true;
  const auto tokens = tokenizer.encode_with(options, text);
  const std::string decoded = tokenizer.decode(tokens);
  if (bdh::valid_utf8(decoded) != decoded) abort();
  const auto stream = tokenizer.decode_stream(false);
  std::string streamed;
  for (const int32_t token : tokens) {
    const std::string piece = stream->push(token);
    if (bdh::valid_utf8(piece) != piece) abort();
    streamed += piece;
  }
  if (streamed + stream->finish() != decoded) abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto tokenizer =
        bdh::make_tokenizer({{"tokenizer.json", {reinterpret_cast<const char*>(data), size}}}, "input");
    for (const std::string_view text : kTexts) check(*tokenizer, text);
  } catch (const bdh::Error&) {
  }
  return 0;
}
