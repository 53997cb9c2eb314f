// Tokenizers that the `tokenizers` package trained, against the tokens and texts it gave:
// tests/data/tokenizers, written by tests/parity/tokenizer_parity.py.
#include <doctest/doctest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "bdh/base/file.h"
#include "bdh/base/json.h"
#include "bdh/text/tokenizers/tokenizer_json.h"
#include "tests/support/programs.h"

using namespace bdh;

namespace {

constexpr const char* kNames[] = {"gpt2", "llama3", "llama2",        "gemma",      "clip_like", "bert",
                                  "t5",   "albert", "unigram_bytes", "word_level", "added",     "limited"};

std::string read_data(const std::string& name) {
  return read_text(std::filesystem::path(bdh::test::kTestData) / "tokenizers" / name, 100'000'000);
}

std::vector<int32_t> tokens_of(const Json& array) {
  std::vector<int32_t> tokens;
  for (const Json& token : array.as_array()) tokens.push_back(static_cast<int32_t>(token.as_integer()));
  return tokens;
}

std::string streamed(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens, bool skip) {
  const auto stream = tokenizer.decode_stream(skip);
  std::string text;
  for (const int32_t token : tokens) text += stream->push(token);
  return text + stream->finish();
}

}  // namespace

TEST_CASE("tokenizers: tokens, texts and streams are those of the package") {
  for (const std::string name : kNames) {
    const auto tokenizer = make_tokenizer({{"tokenizer.json", read_data(name + "/tokenizer.json")}}, name);
    EncodeOptions whole;
    whole.special_tokens = whole.limits = true;
    EncodeOptions plain;
    plain.limits = true;
    const Json cases = Json::parse(read_data(name + "/cases.json"), name);
    CHECK(cases.as_array().size() > 40);
    for (const Json& golden : cases.as_array()) {
      const std::string& text = golden.find("text")->as_string();
      CAPTURE(name);
      CAPTURE(text);
      const std::vector<int32_t> tokens = tokens_of(*golden.find("tokens"));
      CHECK(tokenizer->encode_with(whole, text) == tokens);
      CHECK(tokenizer->encode_with(plain, text) == tokens_of(*golden.find("plain")));
      CHECK(tokenizer->decode(tokens) == golden.find("decoded")->as_string());
      CHECK(tokenizer->decode_text(tokens_of(*golden.find("plain"))) ==
            golden.find("plain_decoded")->as_string());
      CHECK(streamed(*tokenizer, tokens, false) == golden.find("decoded")->as_string());
    }
  }
}

TEST_CASE("tokenizers: the files come back byte for byte") {
  const std::string bytes = read_data("bert/tokenizer.json");
  const TokenizerFiles files{{"tokenizer.json", bytes},
                             {"tokenizer_config.json", R"({"eos_token" :  "[SEP]"})"},
                             {"special_tokens_map.json", "{ }\n"}};
  CHECK(make_tokenizer(files, "bert")->files() == files);
}
