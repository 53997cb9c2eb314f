// Texts as tokens: which files count, what a cache saves and when it is made anew, and what is refused.
#include "bdh/train/data.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <string>
#include <utility>

#include "bdh/base/sha256.h"
#include "bdh/train/text_files.h"
#include "bdh/train/token_cache.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

using namespace bdh;
using test::read_file;
using test::TemporaryDirectory;
using test::Thrown;
using test::thrown_by;
using test::write_file;
namespace fs = std::filesystem;

namespace {

/// A token for each letter, 1000 + its byte; knows no other byte than letters, line break and U+FFFD's.
class Letters : public Tokenizer {
 public:
  explicit Letters(std::string name = "letters", std::optional<int32_t> eos = {})
      : name_(std::move(name)), eos_(eos) {}
  int64_t vocab_size() const override { return 1256; }
  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> tokens;
    for (const char c : text) {
      if (c == '!') fail(ErrorKind::invalid_argument, "a character has no token");
      tokens.push_back(1000 + static_cast<unsigned char>(c));
    }
    return tokens;
  }
  std::string decode(std::span<const int32_t>) const override { return {}; }
  std::optional<int32_t> eos() const override { return eos_; }
  TokenizerFiles files() const override { return {{"tokenizer.json", name_}}; }

 private:
  std::string name_;
  std::optional<int32_t> eos_;
};

std::vector<int32_t> tokens_of(const TokenData& data) {
  std::vector<int32_t> tokens(static_cast<size_t>(data.size()));
  data.copy(0, data.size(), tokens.data());
  return tokens;
}

std::string text_of(const TokenData& data) { return ByteTokenizer().decode(tokens_of(data)); }

std::string bytes_through(const DataOptions& options, std::vector<std::string>* warnings = nullptr) {
  return text_of(load_tokens(options, ByteTokenizer(), 256, warnings));
}

size_t files_in(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

fs::path only_file(const fs::path& folder) {
  REQUIRE(files_in(folder) == 1);
  return fs::directory_iterator(folder)->path();
}

/// 3,000,000 bytes, then those.
std::string many(std::string_view end) {
  std::string text(3'000'000, 'x');
  return text.append(end);
}

fs::file_time_type age(const fs::path& file) {
  fs::last_write_time(file, fs::last_write_time(file) - std::chrono::hours(1));
  return fs::last_write_time(file);
}

}  // namespace

TEST_CASE("token data: parts, hashes and bytes of text") {
  const TokenData data = TokenData::of({5, 6, 7, 8, 9});
  CHECK(tokens_of(data.part(1, 4)) == std::vector<int32_t>{6, 7, 8});
  CHECK(data.part(1, 4).hash() == TokenData::of({6, 7, 8}).hash());
  CHECK(data.hash() != data.part(1, 4).hash());
  const int32_t tokens[] = {5, 6, 7, 8, 9};
  Sha256 sum;
  sum.add(std::as_bytes(std::span(tokens)));
  CHECK(data.hash() == sum.finish());
  const auto packed = std::make_shared<std::vector<std::byte>>(packed_tokens(tokens, 1));
  const TokenData narrow(packed, packed->data(), 5, 1, 10);
  CHECK(narrow.hash() == data.hash());
  CHECK(narrow.part(0, 2).text_bytes() == 4);
  CHECK(TokenData().size() == 0);
  CHECK(TokenData().hash() == TokenData::of({}).hash());
  int32_t to[5];
  for (const auto& asked : {std::array<int64_t, 2>{-1, 1}, {0, 6}, {5, 1}, {1, INT64_MAX}, {0, -1}})
    CHECK(thrown_by([&] { data.copy(asked[0], asked[1], to); }).kind == ErrorKind::invalid_argument);
  CHECK(thrown_by([&] { data.part(3, 2); }).kind == ErrorKind::invalid_argument);
}

TEST_CASE("token data: split into training and validation") {
  const TokenData data = TokenData::of(std::vector<int32_t>(100, 1));
  const DataSplit split = split_tokens(data, 0.1, 9);
  CHECK(split.train.size() == 90);
  CHECK(split.validation.size() == 10);
  CHECK(thrown_by([&] { split_tokens(data, 0.1, 10); }).says("validation has 10 tokens"));
  CHECK(thrown_by([&] { split_tokens(data, 0.95, 9); }).says("train on has 5 tokens"));
  for (const double share : {0.0, 1.0, -1.0, std::nan("")})
    CHECK(thrown_by([&] { split_tokens(data, share, 9); }).kind == ErrorKind::invalid_argument);
}

TEST_CASE("data: files, folders in byte order, and texts joined by line breaks") {
  const TemporaryDirectory directory;
  fs::create_directories(directory / "d/b/.hidden");
  fs::create_directories(directory / "d/empty");
  for (const auto& [name, text] : {std::pair{"d/b/z", "3"},
                                   {"d/b/.hidden/x", "no"},
                                   {"d/.x", "no"},
                                   {"d/B", "1"},
                                   {"d/a", "2"},
                                   {"d/c", ""},
                                   {"d/\xc3\xa9", "4"},
                                   {"one", "0"}})
    directory.write(name, text);
  DataOptions options;
  options.paths = {directory / "one", directory / "d"};
  CHECK(bytes_through(options) == "0\n1\n2\n3\n4");
  const TokenData data = load_tokens(options, ByteTokenizer(), 256);
  CHECK(data.text_bytes() == 9);
  CHECK(tokens_of(load_tokens(options, Letters("letters", 3), 1256)) ==
        std::vector<int32_t>{1048, 3, 1049, 3, 1050, 3, 1051, 3, 1052});
  CHECK(load_tokens(options, Letters("letters", 3), 1256).text_bytes() == 5);
}

TEST_CASE("data: links that run in circles and files that are none") {
  const TemporaryDirectory directory;
  fs::create_directories(directory / "d/e");
  directory.write("d/a", "x");
  directory.write("d/e/b", "y");
  fs::create_directory_symlink("..", directory / "d/e/up");
  fs::create_directory_symlink("e", directory / "d/twice");
  fs::create_symlink("nowhere", directory / "d/broken");
  fs::create_symlink("a", directory / "d/link");
  REQUIRE(::mkfifo((directory / "d/pipe").c_str(), 0600) == 0);
  DataOptions options;
  options.paths = {directory / "d"};
  std::vector<std::string> warnings;
  CHECK(bytes_through(options, &warnings) == "x\ny\nx");
  REQUIRE(warnings.size() == 2);
  CHECK(warnings[0].find("broken' leads nowhere") != std::string::npos);
  CHECK(warnings[1].find("pipe' is no file") != std::string::npos);
  options.paths = {directory / "d/pipe"};
  CHECK(thrown_by([&] { bytes_through(options); }).kind == ErrorKind::invalid_argument);
  options.paths = {directory / "none"};
  CHECK(thrown_by([&] { bytes_through(options); }).kind == ErrorKind::not_found);
}

TEST_CASE("data: no text is an error") {
  const TemporaryDirectory directory;
  DataOptions options;
  CHECK(thrown_by([&] { bytes_through(options); }).says("no file is named"));
  fs::create_directory(directory / "d");
  options.paths = {directory / "d"};
  CHECK(thrown_by([&] { bytes_through(options); }).says("has no files"));
  directory.write("d/a", "");
  directory.write("d/b.jsonl", "{\"text\": \"\"}\n\n");
  for (const char* cache : {"", "cache"}) {
    options.cache = *cache ? directory / cache : fs::path();
    CHECK(thrown_by([&] { bytes_through(options); }).says("there is no text in any"));
  }
}

TEST_CASE("data: JSON lines") {
  const TemporaryDirectory directory;
  directory.write("a.jsonl",
                  "{\"text\": \"x\\ny\"}\r\n\n  \n{\"id\": 1, \"text\": \"\"}\n{\"text\": \"\\u00e9\"}");
  DataOptions options;
  options.paths = {directory / "a.jsonl"};
  CHECK(bytes_through(options) == "x\ny\n\xc3\xa9");
  const std::pair<const char*, const char*> hostile[] = {
      {"{\"text\": \"a\"}\n{\"text\": 7}\n", "line 2: 'text' is no string"},
      {"\n\n[\"text\"]\n", "line 3: is no JSON object"},
      {"{\"other\": \"a\"}", "line 1: has no 'text'"},
      {"{\"text\": \"a\", \"text\": \"b\"}", "line 1: has more than one 'text'"},
      {"{\"text\": \"a\"", "line 1: not valid JSON"},
      {"{\"text\": \"a\"} {\"text\": \"b\"}", "line 1: not valid JSON"},
      {"{\"text\": \"\\ud800\"}", "line 1: not valid JSON"},
      {"{\"text\": \"\xff\"}", "line 1: not valid JSON"},
      {"{\"text\": \"a\nb\"}", "line 1: not valid JSON"},
      {"{\"text\": null}", "line 1: 'text' is no string"},
      {"\"text\"", "line 1: is no JSON object"},
      {"\xef\xbb\xbf{\"text\": \"a\"}", "line 1: starts with a byte order mark"}};
  for (const auto& [lines, words] : hostile) {
    directory.write("a.jsonl", lines);
    const Thrown thrown = thrown_by([&] { bytes_through(options); });
    CHECK(thrown.kind == ErrorKind::bad_file);
    CHECK_MESSAGE(thrown.says(words), thrown.message);
    CHECK(thrown.says("a.jsonl"));
  }
  directory.write("a.jsonl", "{\"text\": " + std::string(5000, '[') + std::string(5000, ']') + "}");
  CHECK(thrown_by([&] { bytes_through(options); }).kind == ErrorKind::bad_file);
  directory.write("a.jsonl", "{\"body\": \"b\", \"text\": 1}");
  options.text_field = "body";
  CHECK(bytes_through(options) == "b");
}

TEST_CASE("data: a cache is made once, and found again by what it was made of") {
  const TemporaryDirectory directory;
  const fs::path file = directory.write("a", many("end"));
  DataOptions options;
  options.paths = {file};
  options.cache = directory / "c/cache";
  const TokenData first = load_tokens(options, ByteTokenizer(), 256);
  CHECK(first.size() == 3'000'003);
  CHECK(first.text_bytes() == 3'000'003);
  const auto made = age(only_file(options.cache));
  fs::rename(file, directory / "renamed");
  options.paths = {directory / "renamed"};
  const TokenData again = load_tokens(options, ByteTokenizer(), 256);
  CHECK(again.hash() == first.hash());
  CHECK(again.text_bytes() == first.text_bytes());
  CHECK(text_of(again.part(3'000'000, 3'000'003)) == "end");
  CHECK(fs::last_write_time(only_file(options.cache)) == made);

  load_tokens(options, Letters(), 1256);
  CHECK(files_in(options.cache) == 2);
  load_tokens(options, Letters("others"), 1256);
  CHECK(files_in(options.cache) == 3);
  directory.write("renamed", many("END"));
  CHECK(text_of(load_tokens(options, ByteTokenizer(), 256).part(3'000'000, 3'000'003)) == "END");
  CHECK(files_in(options.cache) == 4);
  directory.write("a.jsonl", "{\"text\": \"x\", \"t\": \"y\"}");
  options.paths = {directory / "a.jsonl"};
  CHECK(bytes_through(options) == "x");
  options.text_field = "t";
  CHECK(bytes_through(options) == "y");
}

TEST_CASE("data: the cache's own folder is no text") {
  const TemporaryDirectory directory;
  directory.write("a", "abc");
  DataOptions options;
  options.paths = {directory.path()};
  options.cache = directory / "cache";
  CHECK(bytes_through(options) == "abc");
  CHECK(bytes_through(options) == "abc");
}

TEST_CASE("data: a cache that is damaged is made anew") {
  const TemporaryDirectory directory;
  const std::string text = "to be or not to be";
  DataOptions options;
  options.paths = {directory.write("a", text)};
  options.cache = directory / "cache";
  CHECK(bytes_through(options) == text);
  const fs::path cache = only_file(options.cache);
  const std::string whole = read_file(cache);
  for (size_t at = 0; at <= whole.size(); ++at) {
    std::string damaged = whole;
    if (at < whole.size())
      damaged[at] ^= 1;
    else
      damaged += 'x';
    write_file(cache, damaged);
    std::vector<std::string> warnings;
    CHECK_MESSAGE(bytes_through(options, &warnings) == text, at);
    CHECK_MESSAGE(warnings.size() == 1, at);
    CHECK(read_file(cache) == whole);
  }
  for (size_t size = 0; size < whole.size(); size += 7) {
    write_file(cache, whole.substr(0, size));
    CHECK(bytes_through(options) == text);
  }
  CHECK(thrown_by([&] { read_token_cache(cache, std::string(64, '0')); }).says("another text or tokenizer"));
}

TEST_CASE("data: a full disk leaves no cache") {
  const TemporaryDirectory directory;
  DataOptions options;
  options.paths = {directory.write("a", std::string(100'000, 'x'))};
  options.cache = directory / "cache";
  {
    const test::FileSizeLimit limit(50'000);
    CHECK(thrown_by([&] { bytes_through(options); }).kind == ErrorKind::io);
  }
  CHECK(files_in(options.cache) == 0);
  CHECK(bytes_through(options).size() == 100'000);
}

TEST_CASE("data: widths of tokens") {
  CHECK(token_width(256) == 1);
  CHECK(token_width(257) == 2);
  CHECK(token_width(65536) == 2);
  CHECK(token_width(65537) == 4);
  const TemporaryDirectory directory;
  const std::string key(64, 'a');
  for (const auto& [width, tokens] : {std::pair{1, std::vector<int32_t>{0, 255}},
                                      {2, std::vector<int32_t>{0, 256, 65535}},
                                      {4, std::vector<int32_t>{65536, INT32_MAX}}}) {
    TokenCacheWriter writer(directory / "c", key, width);
    writer.add(tokens);
    writer.commit(7);
    const TokenData data = read_token_cache(directory / "c", key);
    CHECK(tokens_of(data) == tokens);
    CHECK(data.text_bytes() == 7);
  }
}

TEST_CASE("data: tokens that the model does not have") {
  const TemporaryDirectory directory;
  DataOptions options;
  options.paths = {directory.write("a", "abc")};
  for (const char* cache : {"", "cache"}) {
    options.cache = *cache ? directory / cache : fs::path();
    CHECK(thrown_by([&] { load_tokens(options, ByteTokenizer(), 98); }).says("token 99"));
    CHECK_NOTHROW(load_tokens(options, ByteTokenizer(), 100));
    CHECK(thrown_by([&] { load_tokens(options, ByteTokenizer(), 99); }).says("a vocabulary of 99"));
  }
}

TEST_CASE("data: what is not UTF-8, and characters without a token") {
  const TemporaryDirectory directory;
  DataOptions options;
  options.paths = {directory.write("a", "ab\xffz"), directory.write("b", "ok\xe2\x82")};
  std::vector<std::string> warnings;
  load_tokens(options, Letters(), 1256, &warnings);
  REQUIRE(warnings.size() == 2);
  CHECK(warnings[0].find("a: is not UTF-8 at byte 2") != std::string::npos);
  CHECK(warnings[1].find("b: is not UTF-8 at byte 2") != std::string::npos);
  warnings.clear();
  CHECK(bytes_through(options, &warnings) == "ab\xffz\nok\xe2\x82");
  CHECK(warnings.empty());
  options.paths = {directory.write("c.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b!\"}\n")};
  CHECK(thrown_by([&] { load_tokens(options, Letters(), 1256); }).says("c.jsonl, line 2: a character"));
}

TEST_CASE("data: progress counts all bytes, and stops") {
  const TemporaryDirectory directory;
  DataOptions options;
  options.paths = {directory.write("a", std::string(2'500'000, 'x')),
                   directory.write("b.jsonl", "\n{\"text\": \"x\"}\n\n")};
  options.cache = directory / "cache";
  uint64_t last = 0, total = 0;
  options.progress = [&](uint64_t done, uint64_t all) { return last = done, total = all, true; };
  load_tokens(options, ByteTokenizer(), 256);
  CHECK(total == 2'500'016);
  CHECK(last == total);
  for (int calls = 0; calls < 4; ++calls) {
    fs::remove_all(options.cache);
    int left = calls;
    options.progress = [&](uint64_t, uint64_t) { return left-- > 0; };
    CHECK(thrown_by([&] { load_tokens(options, ByteTokenizer(), 256); }).kind == ErrorKind::cancelled);
    CHECK((!fs::exists(options.cache) || files_in(options.cache) == 0));
  }
}

TEST_CASE("data: a tokenizer's hash is that of its files") {
  CHECK(tokenizer_hash(ByteTokenizer()) == tokenizer_hash(ByteTokenizer()));
  CHECK(tokenizer_hash(Letters("a")) == tokenizer_hash(Letters("a")));
  CHECK(tokenizer_hash(Letters("a")) != tokenizer_hash(Letters("b")));
  CHECK(tokenizer_hash(Letters("a")) != tokenizer_hash(ByteTokenizer()));
}
