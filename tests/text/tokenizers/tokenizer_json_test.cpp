// tokenizer.json put together by hand: special tokens, broken text, and files that are wrong, hostile or
// beyond what bdh supports.
#include "bdh/text/tokenizers/tokenizer_json.h"

#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "bdh/base/json.h"
#include "tests/support/backends.h"
#include "tests/support/thrown.h"

using namespace bdh;
using bdh::test::Thrown;
using bdh::test::thrown_by;

namespace {

using Tokens = std::vector<int32_t>;

const char* const kWords = R"({"type": "WordLevel", "vocab": {"a": 0, "b": 1, "?": 2}, "unk_token": "?"})";

/// A tokenizer.json with that model and more members: `"decoder": ...`.
std::string document(const std::string& model, const std::string& more = "") {
  return "{\"model\": " + model + (more.empty() ? "" : ", ") + more + "}";
}

std::shared_ptr<const Tokenizer> tokenizer_of(const std::string& json, const std::string& config = "",
                                              std::vector<std::string>* warnings = nullptr) {
  TokenizerFiles files{{"tokenizer.json", json}};
  if (!config.empty()) files["tokenizer_config.json"] = config;
  return make_tokenizer(files, "model", warnings);
}

Tokens encoded(const std::string& json, const std::string& text) { return tokenizer_of(json)->encode(text); }

/// Splits with a regular expression, each piece a word.
std::string splitting(const std::string& regex) {
  Json pattern;
  pattern.set("Regex", regex);
  return document(kWords, R"("pre_tokenizer": {"type": "Split", "pattern": )" + pattern.dump() +
                              R"(, "behavior": "Isolated", "invert": false})");
}

void check_refused(ErrorKind kind, const std::string& says, const std::string& json) {
  const Thrown thrown = thrown_by([&] { tokenizer_of(json); });
  CAPTURE(json);
  CHECK_MESSAGE(thrown.kind == kind, thrown.message);
  CHECK_MESSAGE(thrown.says(says), thrown.message);
}

}  // namespace

TEST_CASE("tokenizers: tokens with a role, from either file") {
  const std::string json =
      document(kWords, R"("added_tokens": [{"id": 3, "content": "<s>", "special": true}])");
  const auto tokenizer = make_tokenizer(
      {{"tokenizer.json", json},
       {"tokenizer_config.json",
        R"({"eos_token": {"content": "b"}, "bos_token": "<s>", "chat_template": "{{ x }}"})"},
       {"special_tokens_map.json", R"({"eos_token": "a", "pad_token": "a", "unk_token": {"content": "?"}})"}},
      "model");
  CHECK(tokenizer->eos() == 1);
  CHECK(tokenizer->special_tokens().bos == 3);
  CHECK(tokenizer->special_tokens().pad == 0);
  CHECK(tokenizer->special_tokens().unk == 2);
  CHECK(tokenizer->chat_template() == "{{ x }}");
  CHECK(tokenizer->vocab_size() == 4);
  CHECK(tokenizer->token_text(3) == "<s>");
  CHECK(!tokenizer->token_text(4));
}

TEST_CASE(
    "tokenizers: an eos_token without a token becomes the next one; ids that are not the package's warn") {
  std::vector<std::string> warnings;
  const auto tokenizer = tokenizer_of(document(kWords, R"("added_tokens": [{"id": 9, "content": "x"}])"),
                                      R"({"eos_token": "none"})", &warnings);
  CHECK(tokenizer->eos() == 4);
  CHECK(warnings.size() == 1);
  CHECK(tokenizer->encode("xnone") == Tokens{3, 4});
}

TEST_CASE("tokenizers: what is not UTF-8 counts as U+FFFD") {
  const std::string json =
      document(R"({"type": "WordLevel", "vocab": {"a": 0, "�": 1, "é": 2, "?": 3}, "unk_token": "?"})",
               R"("pre_tokenizer": {"type": "FixedLength", "length": 1})");
  CHECK(encoded(json, "a\xFF") == Tokens{0, 1});
  CHECK(encoded(json, "\xC3\xA9\xC3") == Tokens{2, 1});
  CHECK(encoded(json, "\xE2\x82") == Tokens{1});
}

TEST_CASE("tokenizers: unknown tokens decode to nothing") {
  const auto tokenizer = tokenizer_of(document(kWords));
  CHECK(tokenizer->decode(Tokens{0, 77, -5, 2147483647, 1}) == "a b");
}

TEST_CASE("tokenizers: special tokens are put around a text when asked for, and left out of it") {
  const auto tokenizer =
      tokenizer_of(document(kWords, R"("added_tokens": [{"id": 1, "content": "b", "special": true}],
        "post_processor": {"type": "TemplateProcessing",
          "single": [{"SpecialToken": {"id": "b"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "b"}}],
          "pair": [], "special_tokens": {"b": {"id": "b", "ids": [1, 1], "tokens": ["b", "b"]}}})"));
  EncodeOptions options;
  options.special_tokens = true;
  CHECK(tokenizer->encode("a") == Tokens{0});
  CHECK(tokenizer->encode_with(options, "a") == Tokens{1, 1, 0, 1, 1});
  CHECK(tokenizer->decode_text(Tokens{1, 0, 1}) == "a");
}

TEST_CASE("tokenizers: what bdh does not support is named") {
  const auto part = [](const char* key, const char* value) {
    return document(kWords, std::string(key) + value);
  };
  const ErrorKind kind = ErrorKind::unsupported;
  check_refused(kind, "'NoSuchModel'", document(R"({"type": "NoSuchModel", "vocab": {}})"));
  check_refused(kind, "normalizer: bdh has no normalizer 'X'", part("\"normalizer\":", R"({"type": "X"})"));
  check_refused(kind, "'UnicodeScripts'", part("\"pre_tokenizer\":", R"({"type": "UnicodeScripts"})"));
  check_refused(kind, "post_processor", part("\"post_processor\":", R"({"type": "X"})"));
  check_refused(kind, "decoders[0]",
                part("\"decoder\":", R"({"type": "Sequence", "decoders": [{"type": "X"}]})"));
  check_refused(kind, "dropout", document(R"({"type": "BPE", "vocab": {}, "merges": [], "dropout": 0.1})"));
  check_refused(kind, "OnlySecond",
                part("\"truncation\":", R"({"strategy": "OnlySecond", "max_length": 3, "stride": 0})"));
  check_refused(kind, "callout", splitting("(*FAIL)"));
}

TEST_CASE("tokenizers: files that contradict themselves are refused, with the place") {
  const ErrorKind kind = ErrorKind::bad_file;
  check_refused(kind, "'model' is missing", "{}");
  check_refused(kind, "model/tokenizer.json", "[]");
  check_refused(kind, "model.vocab", document(R"({"type": "BPE", "vocab": {"a": -1}, "merges": []})"));
  check_refused(kind, "model.vocab",
                document(R"({"type": "BPE", "vocab": {"a": 2147483648}, "merges": []})"));
  check_refused(kind, "model.vocab", document(R"({"type": "BPE", "vocab": {"a": "b"}, "merges": []})"));
  check_refused(kind, "merges[0]", document(R"({"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]})"));
  check_refused(kind, "merges[0]", document(R"({"type": "BPE", "vocab": {"a": 0}, "merges": ["a"]})"));
  check_refused(kind, "merges[0]", document(R"({"type": "BPE", "vocab": {"a": 0}, "merges": [["a", 1]]})"));
  check_refused(
      kind, "merges[1]",
      document(R"({"type": "BPE", "vocab": {"a": 0, "##a": 1, "aa": 2}, "continuing_subword_prefix": "##",
                             "merges": ["a ##a", "a a"]})"));
  check_refused(kind, "unk_id", document(R"({"type": "Unigram", "vocab": [["a", -1]], "unk_id": 1})"));
  check_refused(kind, "vocab[0]", document(R"({"type": "Unigram", "vocab": [["a"]]})"));
  check_refused(kind, "'b' is missing", document(kWords, R"("post_processor": {"type": "TemplateProcessing",
                  "single": [{"SpecialToken": {"id": "b"}}], "special_tokens": {}})"));
  check_refused(kind, "padding", document(kWords, R"("padding": {"strategy": {"Fixed": 99999999999}})"));
  check_refused(
      kind, "precompiled_charsmap",
      document(kWords, R"("normalizer": {"type": "Precompiled", "precompiled_charsmap": "/////w=="})"));
  for (const char* regex :
       {"(", ")", "[", "a)", "*", "a{2}{", "[z-a]", "\\p{Nonsense}", "(?<", "\\", "(?z)", "[&&]"})
    CHECK(thrown_by([&] { tokenizer_of(splitting(regex)); }).kind.has_value() ==
          (std::string(regex) != "a{2}{"));
}

TEST_CASE("tokenizers: a missing unknown-token is an error where it is needed") {
  const std::string words = document(R"({"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"})");
  CHECK(encoded(words, "a") == Tokens{0});
  CHECK(thrown_by([&] { encoded(words, "b"); }).says("unk_token"));
  CHECK(thrown_by([&] {
          encoded(document(R"({"type": "Unigram", "vocab": [["a", 0]]})"), "b");
        }).says("unk_id"));
  CHECK(encoded(document(R"({"type": "BPE", "vocab": {"a": 0}, "merges": []})"), "bab") == Tokens{0});
}

TEST_CASE("tokenizers: a regular expression that explodes is an error, not a hang") {
  const auto tokenizer = tokenizer_of(splitting("(a+)+$|(?:a|a)*b"));
  const Thrown thrown = thrown_by([&] { tokenizer->encode(std::string(200, 'a') + "c"); });
  CHECK(thrown.kind == ErrorKind::bad_file);
  CHECK(thrown.says("cannot be matched"));
}

TEST_CASE("tokenizers: a text has bounded time, however few steps each place in it takes") {
  const std::string cubic = "(?:(?!a*+[cd])a)*+[bc]", linear = "a*a*[bc]|b";
  const Thrown one_word =
      thrown_by([&] { tokenizer_of(splitting(cubic))->encode(std::string(20'000, 'a')); });
  CHECK(one_word.kind == ErrorKind::bad_file);
  CHECK(one_word.says("takes too long"));
  CHECK(tokenizer_of(splitting(linear))->encode(std::string(300, 'a') + "b").size() > 0);
}

TEST_CASE("tokenizers: replacements do not make a text endlessly long") {
  const auto replacing = [](const std::string& part) {
    const std::string step =
        R"({"type": "Replace", "pattern": {"Regex": ""}, "content": ")" + std::string(4000, 'x') + "\"}";
    const std::string twice = R"({"type": "Sequence", ")" + part + "s\": [" + step + ", " + step + "]}";
    return document(kWords, "\"" + part + "\": " + twice);
  };
  const auto normalizing = tokenizer_of(replacing("normalizer"));
  const Thrown thrown = thrown_by([&] { normalizing->encode("some words"); });
  CHECK(thrown.kind == ErrorKind::bad_file);
  CHECK(thrown.says("many times as long"));
  const auto decoding = tokenizer_of(replacing("decoder"));
  CHECK(thrown_by([&] { decoding->decode(Tokens{0}); }).says("many times as long"));
  CHECK(thrown_by([&] {
          const auto stream = decoding->decode_stream(false);
          stream->push(0);
          stream->finish();
        }).says("many times as long"));
  CHECK(thrown_by([] {
          tokenizer_of(document(
              kWords, R"("normalizer": {"type": "Prepend", "prepend": ")" + std::string(4097, 'x') + "\"}"));
        }).says("more than the 4096"));
}

TEST_CASE("tokenizers: long words take no quadratic time") {
  const std::string bpe = document(
      R"({"type": "BPE", "vocab": {"a": 0, "b": 1, "aa": 2, "aaaa": 3}, "merges": ["a a", "aa aa"]})");
  const size_t fours = test::unless_slow<size_t>(250'000, 25'000);
  const std::string word(4 * fours, 'a');
  CHECK(encoded(bpe, word) == Tokens(fours, 3));
  const std::string unigram =
      document(R"({"type": "Unigram", "vocab": [["?", -9], ["a", -1], ["aaaa", -2]], "unk_id": 0})");
  CHECK(encoded(unigram, word) == Tokens(fours, 2));
}

TEST_CASE("tokenizers: deep nesting and odd members") {
  const auto nested = [](int depth) {
    std::string text = "\"normalizer\": ";
    for (int i = 0; i < depth; ++i) text += R"({"type": "Sequence", "normalizers": [)";
    text += R"({"type": "Lowercase"})";
    for (int i = 0; i < depth; ++i) text += "]}";
    return text;
  };
  CHECK(encoded(document(kWords, nested(30)), "A") == Tokens{0});
  check_refused(ErrorKind::bad_file, "nested", document(kWords, nested(130)));
  CHECK(encoded(document(R"({"type": "WordLevel", "vocab": {"": 0, "\u0000": 1}, "unk_token": ""})"),
                std::string(1, '\0')) == Tokens{1});
}

TEST_CASE("tokenizers: many threads share one") {
  const auto tokenizer =
      tokenizer_of(document(R"({"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]})",
                            R"("pre_tokenizer": {"type": "WhitespaceSplit"})"));
  std::vector<std::thread> threads;
  std::vector<Tokens> results(4);
  for (Tokens& result : results)
    threads.emplace_back([&] {
      for (int i = 0; i < 200; ++i) result = tokenizer->encode("ab a b abab ba");
    });
  for (std::thread& thread : threads) thread.join();
  for (const Tokens& result : results) CHECK(result == Tokens{2, 0, 1, 2, 2, 1, 0});
}
