// Safetensors files that break a rule, each with the reason it must be refused for; cut and mutated files.
#include <doctest/doctest.h>

#include <random>
#include <string>
#include <vector>

#include "bdh/formats/safetensors.h"
#include "tests/support/programs.h"
#include "tests/support/safetensors_bytes.h"
#include "tests/support/soak.h"
#include "tests/support/temporary.h"
#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;

namespace {

struct Attack {
  std::string file;  // its bytes
  const char* fragment;
};

Attack with_header(std::string_view header, const char* fragment) {
  return {safetensors_bytes(header, "12345678"), fragment};
}

// One tensor in eight bytes of data.
Attack with_tensor(std::string_view dtype, std::string_view shape, std::string_view offsets,
                   const char* fragment) {
  return with_header(concat("{", tensor_entry("w", dtype, shape, offsets), "}"), fragment);
}

// Two tensors of U8 in eight bytes of data.
Attack with_two(std::string_view first, std::string_view first_shape, std::string_view second,
                std::string_view second_shape, const char* fragment) {
  return with_header(concat("{", tensor_entry("a", "U8", first_shape, first), ",",
                            tensor_entry("b", "U8", second_shape, second), "}"),
                     fragment);
}

// The whole of the data, so that only the tensor's own entry can be wrong.
Attack with_entry(const std::string& entry, const char* fragment) {
  return with_header(concat("{\"w\":", entry, "}"), fragment);
}

Attack with_metadata(const std::string& metadata, const char* fragment) {
  const std::string tensor = tensor_entry("w", "U8", "[8]", "[0,8]");
  return with_header(concat("{\"__metadata__\":", metadata, ",", tensor, "}"), fragment);
}

const std::string kGood = concat("{", tensor_entry("w", "U8", "[8]", "[0,8]"), "}");

std::vector<Attack> length_attacks() {
  return {
      {"", "too short"},
      {"1234567", "too short for a safetensors file, 7 bytes"},
      {std::string(8, '\0'), "does not begin with '{'"},
      {safetensors_bytes(100'000'001, "{}", ""), "more than the 100000000 allowed"},
      {safetensors_bytes(~0ull, "{}", ""), "18446744073709551615 bytes, more than"},
      {safetensors_bytes(~0ull - 7, "{}", ""), "more than the 100000000 allowed"},
      {safetensors_bytes(1ull << 63, "{}", ""), "more than the 100000000 allowed"},
      {safetensors_bytes(3, "{}", ""), "claims 3 bytes, past the end of the file"},
      {safetensors_bytes(99'999'999, kGood, "12345678"), "past the end of the file"},
      {safetensors_bytes(kGood.size() - 1, kGood, "12345678"), "header: not valid JSON"},
      {safetensors_bytes(kGood.size() + 1, kGood, "12345678"), "header: not valid JSON"},
  };
}

std::vector<Attack> json_attacks() {
  const std::string bom = "\xef\xbb\xbf";
  return {
      with_header(concat(" ", kGood), "does not begin with '{'"),
      with_header("[]", "does not begin with '{'"),
      with_header(bom + kGood, "does not begin with '{'"),
      with_header("{", "not valid JSON"),
      with_header(kGood + "x", "not valid JSON"),
      with_header(kGood + kGood, "not valid JSON"),
      with_header(kGood + std::string(1, '\0'), "not valid JSON"),
      with_header("{\"\xff\":1}", "not valid UTF-8"),
      with_header("{\"\xed\xa0\x80\":1}", "not valid UTF-8"),
      with_header("{\"\\ud800\":1}", "not valid JSON"),
      with_header("{\"a\":NaN}", "not valid JSON"),
      with_header(concat("{\"a\":", std::string(100'000, '[')), "not valid JSON"),
      with_header(concat("{\"a\":", std::string(500, '['), std::string(500, ']'), "}"), "is not an object"),
      with_header(concat("{\"a\":", std::string(5000, '['), std::string(5000, ']'), "}"),
                  "nested too deeply"),
  };
}

std::vector<Attack> entry_attacks() {
  return {
      with_entry("1", "tensor 'w': its entry in the header is not an object"),
      with_entry("null", "is not an object"),
      with_entry("[]", "is not an object"),
      with_entry("{}", "dtype is missing"),
      with_entry(R"({"shape":[8],"data_offsets":[0,8]})", "dtype is missing"),
      with_entry(R"({"dtype":"U8","data_offsets":[0,8]})", "shape is missing"),
      with_entry(R"({"dtype":"U8","shape":[8]})", "data_offsets is missing"),
      with_entry(R"({"dtype":"U8","shape":[8],"data_offsets":[0,8],"shape":[8]})",
                 "the key 'shape' stands twice"),
      with_entry(R"({"dtype":"U8","dtype":"F32","shape":[8],"data_offsets":[0,8]})",
                 "the key 'dtype' stands twice"),
      with_entry(R"({"dtype":"U8","shape":[8],"data_offsets":[0,8],"d\u0061ta_offsets":[0,4]})",
                 "'data_offsets' stands twice"),
      with_entry(R"({"dtype":8,"shape":[8],"data_offsets":[0,8]})", "dtype is not a string"),
      with_entry(R"({"dtype":null,"shape":[8],"data_offsets":[0,8]})", "dtype is not a string"),
      with_entry(R"({"dtype":"U8","shape":8,"data_offsets":[0,8]})", "shape is not an array"),
      with_entry(R"({"dtype":"U8","shape":{"0":8},"data_offsets":[0,8]})", "shape is not an array"),
      with_entry(R"({"dtype":"U8","shape":[8],"data_offsets":"0,8"})", "data_offsets is not an array"),
      with_tensor("U8", "[8]", "[]", "fewer than two"),
      with_tensor("U8", "[8]", "[8]", "fewer than two"),
      with_tensor("U8", "[8]", "[0,8,8]", "more than two"),
  };
}

std::vector<Attack> number_attacks() {
  return {
      with_tensor("U8", "[-8]", "[0,8]", "negative number"),
      with_tensor("U8", "[8]", "[-8,0]", "data_offsets has a negative number, -8"),
      with_tensor("U8", "[8]", "[0,-8]", "negative number"),
      with_two("[0,8]", "[8]", "[8,8]", "[-0]", "negative number"),
      with_tensor("U8", "[-2,-4]", "[0,8]", "negative number"),
      with_tensor("U8", "[8.0]", "[0,8]", "not a whole number"),
      with_tensor("U8", "[8e0]", "[0,8]", "not a whole number"),
      with_tensor("U8", "[7.5]", "[0,8]", "not a whole number"),
      with_tensor("U8", "[true]", "[0,8]", "not a whole number"),
      with_tensor("U8", "[null]", "[0,8]", "not a whole number"),
      with_tensor("U8", "[\"8\"]", "[0,8]", "not a whole number"),
      with_tensor("U8", "[[8]]", "[0,8]", "not a whole number"),
      with_tensor("U8", "[8]", "[0.0,8]", "data_offsets has a value that is not a whole number"),
      with_tensor("U8", "[8]", "[0,\"8\"]", "not a whole number"),
      with_tensor("U8", "[8]", "[0,8e0]", "not a whole number"),
      with_tensor("U8", "[08]", "[0,8]", "number is malformed"),
      with_tensor("U8", "[18446744073709551615]", "[0,8]", "overflows 64 bits"),
      with_tensor("U8", "[18446744073709551624]", "[0,8]", "not valid JSON"),
      with_tensor("U8", "[8]", "[0,18446744073709551615]", "overflows 64 bits"),
      with_tensor("U8", "[8]", "[18446744073709551608,18446744073709551615]", "overflows 64 bits"),
      with_tensor("U8", "[4294967296,4294967296]", "[0,0]", "more elements than 64 bits"),
      with_tensor("U8", "[2,9223372036854775804]", "[0,8]", "more elements than 64 bits"),
      with_tensor("F32", "[4611686018427387906]", "[0,8]", "more bytes than 64 bits"),
      with_tensor("F64", "[2305843009213693953]", "[0,8]", "more bytes than 64 bits"),
      with_tensor("C64", "[2305843009213693953]", "[0,8]", "more bytes than 64 bits"),
      with_tensor("U16", "[3]", "[0,8]", "span 8 bytes, but shape (3) of 'U16' needs 6"),
      with_tensor("F4", "[15]", "[0,8]", "its elements end within a byte"),
      with_tensor("F6_E2M3", "[3]", "[0,2]", "its elements end within a byte"),
      with_tensor("F99", "[3]", "[0,9]", "past the end of the file's 8 bytes"),
  };
}

std::vector<Attack> layout_attacks() {
  return {
      with_tensor("U8", "[8]", "[8,0]", "end at 0, before they begin at 8"),
      with_tensor("U8", "[0]", "[8,0]", "before they begin"),
      with_tensor("F32", "[2]", "[0,9]", "span 9 bytes, but shape (2) of 'F32' needs 8"),
      with_tensor("F32", "[3]", "[0,8]", "span 8 bytes, but shape (3) of 'F32' needs 12"),
      with_tensor("U8", "[7]", "[0,8]", "needs 7"),
      with_tensor("U8", "[]", "[0,8]", "needs 1"),
      with_tensor("F32", "[3]", "[0,12]", "past the end of the file's 8 bytes of data"),
      with_tensor("U8", "[9]", "[0,9]", "past the end"),
      with_tensor("U8", "[8]", "[1,9]", "past the end"),
      with_tensor("U8", "[0]", "[9223372036854775807,9223372036854775807]", "past the end"),
      with_tensor("U8", "[7]", "[0,7]", "1 bytes after the last tensor belong to none"),
      with_tensor("U8", "[7]", "[1,8]", "begins at 1, which leaves a hole after 0"),
      with_header("{}", "8 bytes after the last tensor"),
      with_two("[0,3]", "[3]", "[4,8]", "[4]", "tensor 'b': begins at 4, which leaves a hole after 3"),
      with_two("[4,8]", "[4]", "[0,3]", "[3]", "tensor 'a': begins at 4, which leaves a hole after 3"),
      with_two("[0,4]", "[4]", "[3,8]", "[5]", "tensor 'b': its bytes overlap those of 'a'"),
      with_two("[0,8]", "[8]", "[0,8]", "[8]", "overlap"),
      with_two("[0,8]", "[8]", "[2,4]", "[2]", "overlap"),
      with_two("[0,8]", "[8]", "[4,4]", "[0]", "overlap"),
      with_header(concat("{", tensor_entry("w", "U8", "[8]", "[0,8]"), ",",
                         tensor_entry("w", "U8", "[8]", "[0,8]"), "}"),
                  "tensor 'w': the name stands twice"),
      with_header(
          concat("{", tensor_entry("w", "U8", "[4]", "[0,4]"), ",", tensor_entry("v", "U8", "[2]", "[4,6]"),
                 ",", tensor_entry("\\u0077", "U8", "[2]", "[6,8]"), "}"),
          "tensor 'w': the name stands twice"),
      with_header(concat("{", tensor_entry("a\\nb\\u001b[2J", "U8", "[9]", "[0,9]"), "}"),
                  "tensor 'a\\x0ab\\x1b[2J': "),
      with_header(concat("{", tensor_entry(std::string(9000, 'n'), "U8", "[9]", "[0,9]"), "}"),
                  "nnn...': its bytes end at 9"),
  };
}

std::vector<Attack> metadata_attacks() {
  return {
      with_metadata("[]", "__metadata__ is not an object of strings"),
      with_metadata("\"x\"", "__metadata__ is not an object of strings"),
      with_metadata("{\"a\":1}", "__metadata__: the value of 'a' is not a string"),
      with_metadata("{\"a\":null}", "the value of 'a' is not a string"),
      with_metadata("{\"a\":{\"b\":\"c\"}}", "the value of 'a' is not a string"),
      with_metadata("{\"a\":\"1\",\"a\":\"1\"}", "__metadata__: the key 'a' stands twice"),
      with_metadata("{},\"__metadata__\":{}", "two __metadata__ objects"),
      with_metadata("{},\"__metad\\u0061ta__\":{\"a\":\"b\"}", "two __metadata__ objects"),
  };
}

void check_refused(const std::vector<Attack>& attacks) {
  const TemporaryDirectory directory;
  for (const Attack& attack : attacks) {
    const auto path = directory.write("model.safetensors", attack.file);
    const Thrown thrown = thrown_by([&] { SafetensorsFile::open(path); });
    CAPTURE(attack.fragment);
    CHECK(thrown.kind == ErrorKind::bad_file);
    CHECK_MESSAGE(thrown.says(attack.fragment), thrown.message);
    CHECK(thrown.message.substr(0, path.string().size() + 2) == path.string() + ": ");
    CHECK(thrown.message.find('\n') == std::string::npos);
    CHECK(thrown.message.size() < path.string().size() + 300);
  }
}

// Reads everything that the header promises.
void read_all(const std::filesystem::path& path) {
  const SafetensorsFile file = SafetensorsFile::open(path);
  unsigned sum = 0;
  for (const TensorInfo& info : file.tensors()) {
    if (!info.usable()) continue;
    const Tensor tensor = file.tensor(info.name);
    for (size_t i = 0; i < tensor.bytes(); ++i) sum += static_cast<unsigned>(tensor.data[i]);
  }
  CHECK(sum <= 255u * std::filesystem::file_size(path));
}

std::string golden(const char* name) {
  return read_file(std::filesystem::path(bdh::test::kTestData) / "safetensors" / name);
}

}  // namespace

TEST_CASE("safetensors attacks: header length") { check_refused(length_attacks()); }
TEST_CASE("safetensors attacks: JSON") { check_refused(json_attacks()); }
TEST_CASE("safetensors attacks: a tensor's entry") { check_refused(entry_attacks()); }
TEST_CASE("safetensors attacks: numbers") { check_refused(number_attacks()); }
TEST_CASE("safetensors attacks: layout") { check_refused(layout_attacks()); }
TEST_CASE("safetensors attacks: metadata") { check_refused(metadata_attacks()); }

TEST_CASE("safetensors attacks: a file of 100001 metadata entries") {
  std::string entries = "{\"k\":\"\"";
  for (int i = 0; i < 100'000; ++i) entries += concat(",\"", i, "\":\"\"");
  check_refused({with_metadata(entries + "}", "more than 100000 entries")});
}

TEST_CASE("safetensors attacks: 50000 tensors, the last name a duplicate") {
  std::string header = "{";
  std::string data;
  for (int i = 0; i < 50'000; ++i) {
    const std::string offsets = concat("[", i, ",", i + 1, "]");
    header += tensor_entry(concat("t", i), "U8", "[]", offsets) + ",";
    data += 'x';
  }
  const std::string last = tensor_entry("u", "U8", "[]", "[50000,50001]");
  const std::string twice = tensor_entry("t123", "U8", "[]", "[50000,50001]");
  const TemporaryDirectory directory;
  const auto path = directory.write("many", safetensors_bytes(header + last + "}", data + "x"));
  CHECK(SafetensorsFile::open(path).tensors().size() == 50'001);
  check_refused(
      {{safetensors_bytes(header + twice + "}", data + "x"), "tensor 't123': the name stands twice"}});
}

TEST_CASE("safetensors attacks: files cut anywhere in the header and around every tensor's ends") {
  const TemporaryDirectory directory;
  for (const char* name : {"dtypes.safetensors", "shapes.safetensors", "names.safetensors"}) {
    const std::string whole = golden(name);
    REQUIRE(whole.size() > 100);
    const auto path = directory.write("whole", whole);
    const SafetensorsFile file = SafetensorsFile::open(path);
    std::vector<size_t> lengths;
    for (size_t i = 0; i <= file.data_offset(); ++i) lengths.push_back(i);
    for (const TensorInfo& info : file.tensors()) {
      for (const uint64_t edge : {info.begin, info.end}) {
        for (const size_t near : {edge - 1, edge, edge + 1}) lengths.push_back(file.data_offset() + near);
      }
    }
    for (const size_t length : lengths) {
      if (length == whole.size()) continue;
      const auto cut = directory.write("cut", length < whole.size() ? whole.substr(0, length) : whole + "x");
      const Thrown thrown = thrown_by([&] { SafetensorsFile::open(cut); });
      CAPTURE(length);
      CHECK(thrown.kind == ErrorKind::bad_file);
    }
  }
}

TEST_CASE("safetensors: what the package reads and no weights are is listed, and stops nothing") {
  std::string ones = "[1";
  for (int i = 0; i < 64; ++i) ones += ",1";
  const TemporaryDirectory directory;
  const auto entry = [](const std::string& type, const std::string& shape) {
    return concat("{", tensor_entry("a", "U8", "[0]", "[0,0]"), ",",
                  tensor_entry("b", "F32", "[0,9]", "[0,0]"), ",", tensor_entry("w", type, shape, "[0,8]"),
                  ",\"__metadata__\":null}");
  };
  const std::vector<std::pair<std::string, std::string>> others{
      {"U16", "[4]"}, {"U32", "[2]"}, {"U64", "[1]"}, {"U64", "[]"},        {"C64", "[1]"},
      {"F4", "[16]"}, {"F31", "[7]"}, {"f32", "[2]"}, {"F32\\u0000", "[2]"}};
  for (const auto& other : others) {
    CAPTURE(other.first);
    const auto path =
        directory.write("model.safetensors", with_header(entry(other.first, other.second), "").file);
    const SafetensorsFile file = SafetensorsFile::open(path);
    REQUIRE(file.tensors().size() == 3);
    CHECK(file.tensor("b").bytes() == 0);
    const Thrown thrown = thrown_by([&] { file.tensor("w"); });
    CHECK(thrown.kind == ErrorKind::unsupported);
    CHECK(thrown.says("tensor 'w' has dtype"));
  }
  ones += "]";
  const std::string deep = concat("{", tensor_entry("w", "U64", ones, "[0,8]"), "}");
  CHECK_FALSE(
      SafetensorsFile::open(directory.write("deep", with_header(deep, "").file)).tensors()[0].usable());
  const std::string fields =
      R"({"dtype":"U8","shape":[8],"data_offsets":[0,8],"strides":[-0, -1.5, {"a": null}]})";
  CHECK(SafetensorsFile::open(directory.write("fields", with_entry(fields, "").file)).tensor("w").bytes() ==
        8);
  const std::string empty = concat("{", tensor_entry("e", "U8", "[4294967296,4294967296,0]", "[0,0]"), ",",
                                   tensor_entry("w", "U8", "[8]", "[0,8]"), "}");
  CHECK(SafetensorsFile::open(directory.write("empty", with_header(empty, "").file)).tensor("e").bytes() ==
        0);
}

TEST_CASE("safetensors attacks: mutated files are read or refused, nothing else") {
  const TemporaryDirectory directory;
  constexpr std::string_view kPieces = "{}[]\",:\\0123456789-e.tfn \xff";
  std::mt19937 random(7);
  int refused = 0;
  const int count = bdh::test::rounds(1000);
  for (int i = 0; i < count; ++i) {
    std::string bytes = golden(i % 2 == 0 ? "dtypes.safetensors" : "shapes.safetensors");
    const size_t header_end =
        8 + static_cast<unsigned char>(bytes[0]) + 256u * static_cast<unsigned char>(bytes[1]);
    for (auto edits = random() % 3; edits < 3; ++edits) {
      const size_t at = random() % 10 == 0 ? random() % 8 : 8 + random() % (header_end - 8);
      bytes[at] = random() % 4 == 0 ? static_cast<char>(random()) : kPieces[random() % kPieces.size()];
    }
    const auto path = directory.write("mutated", bytes);
    const Thrown thrown = thrown_by([&] { read_all(path); });
    refused += thrown.kind == ErrorKind::bad_file;
    CHECK((!thrown.kind || thrown.kind == ErrorKind::bad_file));
  }
  CHECK(refused > count / 3 * 2);
  CHECK(refused < count);
}
