// UTF-8 streams against Python's decoder (tests/parity/sampling_parity.py), whole and cut into pieces.
#include "bdh/text/utf8.h"

#include <doctest/doctest.h>

#include "bdh/base/file.h"
#include "bdh/base/json.h"
#include "tests/support/programs.h"

using namespace bdh;

namespace {

struct Example {
  std::string bytes;
  std::string text;
};

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

std::vector<Example> goldens() {
  const std::string path = std::string(bdh::test::kTestData) + "/sampling/utf8.json";
  const Json json = Json::parse(read_text(path, size_t{1} << 20), path);
  std::vector<Example> examples;
  for (const Json& example : json.as_array()) {
    examples.push_back({from_hex(example.find("bytes")->as_string()), example.find("text")->as_string()});
  }
  return examples;
}

}  // namespace

TEST_CASE("bytes become the text that Python makes of them") {
  for (const Example& example : goldens()) CHECK(valid_utf8(example.bytes) == example.text);
}

TEST_CASE("where the bytes are cut makes no difference, and no piece holds half a character") {
  for (const Example& example : goldens()) {
    for (size_t size = 1; size <= 3; ++size) {
      Utf8Stream stream;
      std::string text;
      for (size_t at = 0; at < example.bytes.size(); at += size) {
        const std::string piece = stream.push(example.bytes.substr(at, size));
        CHECK(valid_utf8(piece) == piece);
        text += piece;
      }
      CHECK(text + stream.finish() == example.text);
    }
  }
}

TEST_CASE("a character appears with its last byte") {
  Utf8Stream stream;
  CHECK(stream.push("a\xF0\x9D") == "a");
  CHECK(stream.push("\x84") == "");
  CHECK(stream.push("\x9E"
                    "b") ==
        "\xF0\x9D\x84\x9E"
        "b");
  CHECK(stream.finish() == "");
}

TEST_CASE("a stream can be used again after its end") {
  Utf8Stream stream;
  stream.push("\xE2\x82");
  CHECK(stream.finish() == "\xEF\xBF\xBD");
  CHECK(stream.push("\xAC") == "\xEF\xBF\xBD");
  CHECK(stream.finish() == "");
}
