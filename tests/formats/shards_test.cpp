// Splitting into shards, their index, and sizes in words. Every split expected here is what huggingface_hub
// makes of the same sizes.
#include "bdh/formats/shards.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "bdh/base/error.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

namespace {

using bdh::ErrorKind;
using bdh::parse_size;
using bdh::Shard;
using bdh::test::TemporaryDirectory;
using bdh::test::Thrown;
using bdh::test::thrown_by;

/// Tensors "a", "b", ... of these sizes, as "model-1-of-2:ab model-2-of-2:c"-like text: "ab|c".
std::string split(const std::vector<uint64_t>& sizes, uint64_t max_bytes) {
  std::vector<bdh::TensorSize> tensors;
  for (const uint64_t bytes : sizes)
    tensors.push_back({std::string(1, static_cast<char>('a' + tensors.size())), bytes});
  std::string text;
  for (const Shard& shard : bdh::split_into_shards(tensors, max_bytes, "model", ".safetensors")) {
    if (!text.empty()) text += "|";
    for (const std::string& name : shard.tensors) text += name;
  }
  return text;
}

Thrown read_index(std::string_view json) {
  TemporaryDirectory directory;
  bdh::test::write_file(directory / "index.json", json);
  return thrown_by([&] { bdh::read_shard_index(directory / "index.json"); });
}

}  // namespace

TEST_CASE("shards: whole tensors in their order, as the reference package splits them") {
  CHECK(split({1, 2, 3}, 6) == "abc");
  CHECK(split({1, 2, 3}, 5) == "ab|c");
  CHECK(split({6, 6, 2, 6, 2, 2}, 10) == "a|bc|def");
  CHECK(split({5, 5, 5}, 5) == "a|b|c");
  CHECK(split({0, 5, 0, 5}, 5) == "abc|d");
  CHECK(split({1, 20, 2, 30, 3}, 10) == "b|d|ace");  // a tensor too large for any shard goes first
  CHECK(split({20}, 10) == "a");
  CHECK(split({1, 1}, 1) == "a|b");
  CHECK(split({UINT64_MAX, 1, UINT64_MAX - 1}, UINT64_MAX) == "a|bc");
}

TEST_CASE("shards: names and index") {
  const auto one = bdh::split_into_shards({{"a", 3}}, 5, "pytorch_model", ".bin");
  REQUIRE(one.size() == 1);
  CHECK(one[0].file == "pytorch_model.bin");
  const auto two = bdh::split_into_shards({{"z", 3}, {"a", 4}}, 5, "model", ".safetensors");
  REQUIRE(two.size() == 2);
  CHECK(two[1].file == "model-00002-of-00002.safetensors");
  CHECK(two[1].bytes == 4);
  const bdh::Json index = bdh::shard_index(two, 5);
  CHECK(
      index.dump() ==
      R"({"metadata": {"total_parameters": 5, "total_size": 7}, )"
      R"("weight_map": {"z": "model-00001-of-00002.safetensors", "a": "model-00002-of-00002.safetensors"}})");
  TemporaryDirectory directory;
  bdh::test::write_file(directory / "index.json", index.dump());
  const auto files = bdh::read_shard_index(directory / "index.json");
  CHECK(files.size() == 2);
  CHECK(files.at("z") == two[0].file);
}

TEST_CASE("shards: hostile indexes") {
  for (const char* text : {"", "[]", "{}", "7", R"({"weight_map": {}})", R"({"weight_map": ["a"]})",
                           R"({"weight_map": {"a": 3}})", R"({"weight_map": {"a": "x", "a": "y"}})"}) {
    const Thrown error = read_index(text);
    CHECK_MESSAGE(error.kind == ErrorKind::bad_file, text);
    CHECK_MESSAGE(error.says("index.json"), error.message);
  }
  for (const char* name :
       {"../x", "/etc/passwd", "sub/x", "..", ".", "", "a\\\\b", "x\\u0000.safetensors", "./x"}) {
    const Thrown error = read_index(std::string(R"({"weight_map": {"t\n": ")") + name + "\"}}");
    CHECK_MESSAGE(error.kind == ErrorKind::bad_file, name);
    CHECK_MESSAGE(error.says("not a plain file name"), error.message);
    CHECK(error.message.find('\n') == std::string::npos);
  }
}

TEST_CASE("shards: sizes in words") {
  CHECK(parse_size("500MB") == 500'000'000);
  CHECK(parse_size("2GB") == 2'000'000'000);
  CHECK(parse_size(" 5 gb ") == 5'000'000'000);
  CHECK(parse_size("1GiB") == 1'073'741'824);
  CHECK(parse_size("2.5KB") == 2500);
  CHECK(parse_size("0.0015MB") == 1500);
  CHECK(parse_size("1.2345KB") == 1234);
  CHECK(parse_size("1073741824") == 1'073'741'824);
  CHECK(parse_size("7b") == 7);
  CHECK(parse_size("3TB") == 3'000'000'000'000);
  for (const char* text : {"", " ", "GB", "5XB", "-1GB", "1 000", "0", "0.1", "nan", "inf", "infGB", "1e30GB",
                           "5GB5", "0x10", "5 G B"})
    CHECK_MESSAGE(thrown_by([&] { parse_size(text); }).kind == ErrorKind::invalid_argument, text);
}
