// Where a model's tokenizer lies and what it is: other names and folders, ByT5, characters in a checkpoint,
// bytes only where nothing says otherwise.
#include "bdh/pretrained/tokenizer_files.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "bdh/pretrained/model.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;

namespace {

using Tokens = std::vector<int32_t>;
namespace fs = std::filesystem;

const char* const kWords =
    R"({"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "?": 2}, "unk_token": "?"},
                               "pre_tokenizer": {"type": "Whitespace"}})";

#ifdef BDH_TOKENIZERS
std::shared_ptr<const Tokenizer> tokenizer_in(const TemporaryDirectory& directory, int64_t vocab,
                                              const Json& values = {}) {
  return tokenizer_from(find_tokenizer(directory.path(), vocab, {}, values), vocab, directory.path());
}

void write_in(const TemporaryDirectory& directory, const char* folder, const char* name, const char* text) {
  fs::create_directories(directory / folder);
  write_file(directory / folder / name, text);
}
#endif

}  // namespace

TEST_CASE("tokenizer files: bytes are tokens where there are 256 and nothing says otherwise") {
  const TemporaryDirectory empty;
  CHECK(find_tokenizer(empty.path(), 256).kind == kBytesKind);
  CHECK(find_tokenizer(empty.path(), 255).kind.empty());
  const TemporaryDirectory said;
  said.write("tokenizer_config.json", R"({"tokenizer_class": "LlamaTokenizer"})");
  const TokenizerSource other = find_tokenizer(said.path(), 256);
  CHECK(other.kind.empty());
  CHECK_FALSE(other.unread.empty());
  const TemporaryDirectory sentencepiece;
  sentencepiece.write("tokenizer.model", "...");
  CHECK(find_tokenizer(sentencepiece.path(), 256).kind.empty());
}

TEST_CASE("tokenizer files: two candidates are named") {
  const TemporaryDirectory directory;
  directory.write("bpe-4k.json", kWords);
  directory.write("bpe-8k.json", kWords);
  const Thrown thrown = thrown_by([&] { find_tokenizer(directory.path(), 256); });
  CHECK(thrown.kind == ErrorKind::invalid_argument);
  CHECK(thrown.says("bpe-4k.json"));
  CHECK(thrown.says("bpe-8k.json"));
}

#ifdef BDH_TOKENIZERS

TEST_CASE("tokenizer files: in tokenizer/ or under another name, and kept when the model is saved") {
  for (const auto& [folder, name] : std::vector<std::pair<const char*, const char*>>{
           {"tokenizer", "tokenizer.json"}, {"", "bpe-8k.json"}}) {
    const TemporaryDirectory directory, saved;
    write_model(directory.path(), config_of(1, 8, 1, 2, 3));
    write_in(directory, folder, name, kWords);
    const Model model = Model::from_pretrained(directory.path());
    REQUIRE(model.tokenizer);
    CHECK(model.tokenizer->encode("b a c") == Tokens{1, 0, 2});
    model.save_pretrained(saved / "out");
    CHECK(Model::from_pretrained(saved / "out").tokenizer->encode("b a c") == Tokens{1, 0, 2});
  }
}

TEST_CASE("tokenizer files: tokens that the files beside tokenizer.json add") {
  const TemporaryDirectory directory;
  directory.write("tokenizer.json", kWords);
  directory.write(
      "tokenizer_config.json",
      R"({"added_tokens_decoder": {"3": {"content": "<x>", "special": true}}, "eos_token": "<x>"})");
  const auto tokenizer = tokenizer_in(directory, 8);
  CHECK(tokenizer->encode("a<x>b") == Tokens{0, 3, 1});
  CHECK(tokenizer->eos() == 3);
  const TemporaryDirectory older;
  older.write("tokenizer.json", kWords);
  older.write("added_tokens.json", R"({"<y>": 4, "<x>": 3})");
  CHECK(tokenizer_in(older, 8)->encode("a<x>b<y>") == Tokens{0, 3, 1, 4});
}

TEST_CASE("tokenizer files: ByT5 is a byte plus three") {
  const TemporaryDirectory directory;
  directory.write("tokenizer_config.json", R"({"tokenizer_class": "ByT5Tokenizer", "extra_ids": 2})");
  const auto tokenizer = tokenizer_in(directory, 384);
  REQUIRE(tokenizer);
  CHECK(tokenizer->encode("a\xc3\xa9") == Tokens{'a' + 3, 0xc3 + 3, 0xa9 + 3});
  CHECK(tokenizer->decode(Tokens{'a' + 3, 0xc3 + 3, 0xa9 + 3}) == "a\xc3\xa9");
  CHECK(tokenizer->eos() == 1);
  CHECK(tokenizer->encode_with({.special_tokens = true}, "a") == Tokens{'a' + 3, 1});
}

TEST_CASE("tokenizer files: characters of a checkpoint, as stoi and as itos") {
  const TemporaryDirectory directory;
  for (const char* values :
       {R"({"stoi": {"a": 1, "é": 0, "b": 2}})", R"({"itos": {"0": "é", "1": "a", "2": "b"}})",
        R"({"chars": ["é", "a", "b"]})"}) {
    CAPTURE(values);
    const auto tokenizer = tokenizer_in(directory, 3, Json::parse(values, "test"));
    REQUIRE(tokenizer);
    CHECK(tokenizer->encode("baé") == Tokens{2, 1, 0});
    CHECK(tokenizer->decode(Tokens{0, 1, 2}) == "éab");
    CHECK(thrown_by([&] { tokenizer->encode("c"); }).kind.has_value());
  }
}

#endif
