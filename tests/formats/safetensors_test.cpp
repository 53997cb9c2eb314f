// Safetensors files read and written: golden files of the reference package, and what the writer refuses.
#include "bdh/formats/safetensors.h"

#include <doctest/doctest.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/programs.h"
#include "tests/support/safetensors_bytes.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;
namespace fs = std::filesystem;

namespace {

struct Sample {
  std::string file;
  TensorMap tensors;
  Metadata metadata;
};

Sample every_dtype() {
  constexpr std::pair<const char*, DType> kNamed[] = {
      {"float64", DType::f64},
      {"float32", DType::f32},
      {"float16", DType::f16},
      {"bfloat16", DType::bf16},
      {"int64", DType::i64},
      {"int32", DType::i32},
      {"int16", DType::i16},
      {"int8", DType::i8},
      {"uint8", DType::u8},
      {"bool", DType::boolean},
      {"float8_e4m3fn", DType::f8_e4m3},
      {"float8_e5m2", DType::f8_e5m2},
      {"float8_e8m0fnu", DType::f8_e8m0},
      {"float8_e4m3fnuz", DType::f8_e4m3fnuz},
      {"float8_e5m2fnuz", DType::f8_e5m2fnuz},
  };
  Sample sample{"dtypes.safetensors", {}, {{"format", "pt"}}};
  for (const auto& [name, dtype] : kNamed) sample.tensors[name] = patterned(dtype, {2, 3});
  return sample;
}

Sample every_shape() {
  return {"shapes.safetensors",
          {{"scalar", patterned(DType::f32, {})},
           {"vector", patterned(DType::f32, {5})},
           {"matrix", patterned(DType::bf16, {3, 4})},
           {"odd", patterned(DType::u8, {3})},
           {"deep", patterned(DType::i16, {1, 2, 1, 1, 3, 1})},
           {"empty", patterned(DType::boolean, {0, 7})}},
          {}};
}

Sample odd_names() {
  Sample sample{"names.safetensors", {}, {{"schlüssel \"1\"", "line\none\ttab \\ \x7f \x01 量"}}};
  for (const char* name :
       {"", "attn.freqs", "größe", "quote\"back\\slash/", "tab\tline\n", "\x1b[2J", "😀", "a", "B"}) {
    sample.tensors[name] = patterned(DType::f16, {2});
  }
  return sample;
}

std::vector<Sample> samples() { return {every_dtype(), every_shape(), odd_names()}; }

void check_equal(const Tensor& found, const Tensor& expected) {
  CHECK(found.dtype == expected.dtype);
  CHECK(found.shape == expected.shape);
  CHECK(found.strides == contiguous_strides(expected.shape));
  REQUIRE(found.bytes() == expected.bytes());
  CHECK(std::memcmp(found.data, expected.data, expected.bytes()) == 0);
}

fs::path golden(const std::string& file) { return fs::path(bdh::test::kTestData) / "safetensors" / file; }

Thrown write_thrown(const TemporaryDirectory& directory, const TensorMap& tensors, const Metadata& metadata) {
  return thrown_by([&] { write_safetensors(directory.path() / "out.safetensors", tensors, metadata); });
}

}  // namespace

TEST_CASE("safetensors: files of the reference package read as they were written") {
  for (const Sample& sample : samples()) {
    CAPTURE(sample.file);
    const SafetensorsFile file = SafetensorsFile::open(golden(sample.file));
    CHECK(file.tensors().size() == sample.tensors.size());
    CHECK(file.metadata() == sample.metadata);
    for (const auto& [name, tensor] : sample.tensors) check_equal(file.tensor(name), tensor);
  }
}

TEST_CASE("safetensors: written files are those of the reference package, byte for byte") {
  const TemporaryDirectory directory;
  for (const Sample& sample : samples()) {
    CAPTURE(sample.file);
    write_safetensors(directory.path() / sample.file, sample.tensors, sample.metadata);
    CHECK(read_file(directory.path() / sample.file) == read_file(golden(sample.file)));
  }
}

TEST_CASE("safetensors: offsets, order and lifetime") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "a.safetensors";
  write_safetensors(path,
                    {{"b", patterned(DType::f32, {2})},
                     {"a", patterned(DType::f32, {1})},
                     {"w", patterned(DType::f64, {1})}},
                    {});
  Tensor kept;
  {
    const SafetensorsFile file = SafetensorsFile::open(path);
    CHECK(file.path() == path);
    CHECK(file.data_offset() % 8 == 0);
    std::vector<std::string> names;
    for (const TensorInfo& info : file.tensors()) names.push_back(info.name);
    CHECK(names == std::vector<std::string>{"w", "a", "b"});
    CHECK(file.tensors()[2].begin == 12);
    CHECK(file.tensors()[2].end == 20);
    kept = file.tensor("b");
    const std::string bytes = read_file(path);
    CHECK(std::memcmp(bytes.data() + file.data_offset() + 12, kept.data, 8) == 0);
    const Thrown thrown = thrown_by([&] { file.tensor("c"); });
    CHECK(thrown.kind == ErrorKind::not_found);
    CHECK(thrown.says("tensor 'c'"));
  }
  check_equal(kept, patterned(DType::f32, {2}));
}

TEST_CASE("safetensors: a file may be written over while its tensors are in use") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "a.safetensors";
  write_safetensors(path, {{"a", patterned(DType::f32, {100, 100})}}, {});
  const Tensor view = SafetensorsFile::open(path).tensor("a");
  write_safetensors(path, {{"a", converted(view, DType::f64)}, {"b", view}}, {});
  check_equal(SafetensorsFile::open(path).tensor("b"), patterned(DType::f32, {100, 100}));
}

TEST_CASE("safetensors: strided tensors are written row by row") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "a.safetensors";
  Tensor view = patterned(DType::f32, {300, 500});
  std::swap(view.shape[0], view.shape[1]);
  std::swap(view.strides[0], view.strides[1]);
  write_safetensors(path, {{"t", view}}, {});
  check_equal(SafetensorsFile::open(path).tensor("t"), converted(view, DType::f32));
  CHECK(converted(view, DType::f32).contiguous());
}

TEST_CASE("safetensors: tensors begin at multiples of what divides their bytes") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "a.safetensors";
  const TensorMap tensors{{"odd", patterned(DType::f64, {3})},
                          {"half", patterned(DType::f16, {32})},
                          {"whole", patterned(DType::f32, {5, 16})},
                          {"byte", patterned(DType::u8, {1})},
                          {"some", patterned(DType::u8, {96})}};
  write_safetensors(path, tensors, {}, {}, 64);
  const SafetensorsFile file = SafetensorsFile::open(path);
  std::vector<std::string> order;
  for (const TensorInfo& info : file.tensors()) order.push_back(info.name);
  CHECK(order == std::vector<std::string>{"whole", "half", "some", "odd", "byte"});
  CHECK(file.data_offset() % 64 == 0);
  for (const TensorInfo& info : file.tensors()) {
    const uint64_t bytes = info.end - info.begin, divisor = (bytes & -bytes) > 64 ? 64 : bytes & -bytes;
    CHECK(info.begin % divisor == 0);
  }
  for (const auto& [name, tensor] : tensors) check_equal(file.tensor(name), tensor);
}

TEST_CASE("safetensors: the smallest files") {
  const TemporaryDirectory directory;
  const auto path = directory.path() / "a.safetensors";
  write_safetensors(path, {}, {});
  CHECK(read_file(path) == safetensors_bytes("{}      ", ""));
  CHECK(SafetensorsFile::open(path).tensors().empty());
  write_safetensors(path, {}, {{"k", "v"}});
  CHECK(SafetensorsFile::open(path).metadata() == Metadata{{"k", "v"}});
  CHECK(SafetensorsFile::open(directory.write("b", safetensors_bytes("{}\n\t \r", ""))).tensors().empty());
}

TEST_CASE("safetensors: entries in any order, data not aligned") {
  const TemporaryDirectory directory;
  const std::string header = concat("{", tensor_entry("b", "F32", "[1]", "[3,7]"), ", ",
                                    tensor_entry("a", "U8", "[3]", "[0,3]"), "}");
  const SafetensorsFile file =
      SafetensorsFile::open(directory.write("a", safetensors_bytes(header, "abcdefg")));
  CHECK(file.tensors()[0].name == "a");
  CHECK(std::memcmp(file.tensor("b").data, "defg", 4) == 0);
}

TEST_CASE("safetensors: a file is recognised by its first bytes") {
  const TemporaryDirectory directory;
  CHECK(is_safetensors(golden("dtypes.safetensors")));
  CHECK(is_safetensors(directory.write("cut", safetensors_bytes(500, "{\"a\"", ""))));
  CHECK_FALSE(is_safetensors(directory.write("empty", "")));
  CHECK_FALSE(is_safetensors(directory.write("zip", "PK\x03\x04 and much more")));
  CHECK_FALSE(is_safetensors(directory.write("list", safetensors_bytes("[]", ""))));
  CHECK_FALSE(is_safetensors(directory.write("text", "{\"a\": \"{{{{{{{{\"}")));
  CHECK(thrown_by([&] { is_safetensors(directory.path() / "none"); }).kind == ErrorKind::not_found);
}

TEST_CASE("safetensors: the writer refuses what no reader would take, and leaves no file") {
  const TemporaryDirectory directory;
  const Tensor good = patterned(DType::f32, {2});
  CHECK(write_thrown(directory, {{"__metadata__", good}}, {})
            .says("tensor '__metadata__' has the name of the metadata"));
  CHECK(write_thrown(directory, {{"a\xff", good}}, {}).says("tensor name 'a\\xff' is not UTF-8"));
  CHECK(write_thrown(directory, {}, {{"k", "\xff"}}).says("metadata value"));
  CHECK(write_thrown(directory, {}, {{"\xff", "v"}}).says("metadata key"));
  Tensor elsewhere = good;
  elsewhere.device.kind = Device::Kind::cuda;
  CHECK(write_thrown(directory, {{"a", elsewhere}}, {}).says("not in CPU memory"));
  CHECK(write_thrown(directory, {{"a", patterned(DType::u8, Shape(65, 1))}}, {})
            .says("more than 64 dimensions"));
  CHECK(write_thrown(directory, {}, {{"k", std::string(100'000'001, 'x')}})
            .says("longer than the format allows"));
  CHECK(fs::is_empty(directory.path()));
}

// Read with the reference package by tests/parity/safetensors_parity.py, which sets the variable.
TEST_CASE("parity: write safetensors") {
  const char* out = std::getenv("BDH_PARITY_OUT");
  if (out == nullptr) return;
  for (const Sample& sample : samples())
    write_safetensors(fs::path(out) / sample.file, sample.tensors, sample.metadata);
  Tensor view = patterned(DType::bf16, {300, 500});
  std::swap(view.shape[0], view.shape[1]);
  std::swap(view.strides[0], view.strides[1]);
  write_safetensors(fs::path(out) / "strided.safetensors", {{"transposed", view}}, {{"a", "1"}, {"z", "2"}});
}
