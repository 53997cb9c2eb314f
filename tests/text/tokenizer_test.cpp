// Bytes as tokens.
#include "bdh/text/tokenizer.h"

#include <doctest/doctest.h>

#include "bdh/base/error.h"

using namespace bdh;

TEST_CASE("every byte is a token and comes back") {
  std::string bytes;
  for (int i = 0; i < 256; ++i) bytes.push_back(static_cast<char>(i));
  const ByteTokenizer tokenizer;
  const std::vector<int32_t> tokens = tokenizer.encode(bytes);
  REQUIRE(tokens.size() == 256);
  for (int32_t i = 0; i < 256; ++i) CHECK(tokens[i] == i);
  CHECK(tokenizer.decode(tokens) == bytes);
  CHECK(tokenizer.vocab_size() == 256);
  CHECK(!tokenizer.eos());
  CHECK(tokenizer.encode("").empty());
}

TEST_CASE("a token that is no byte is an error") {
  const ByteTokenizer tokenizer;
  for (const int32_t token : {-1, 256}) {
    CHECK_THROWS_AS(static_cast<void>(tokenizer.decode(std::vector<int32_t>{token})), Error);
  }
}
