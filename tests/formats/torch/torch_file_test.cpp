// PyTorch files read and written: golden files that torch.save wrote, and what the writer refuses.
#include "bdh/formats/torch/torch_file.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/formats/torch/torch_dump.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/programs.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"
#include "tests/support/thrown.h"

using namespace bdh;
using namespace bdh::test;
namespace fs = std::filesystem;

namespace {

const fs::path kGolden = fs::path(bdh::test::kTestData) / "torch";

std::vector<fs::path> files_in(const fs::path& directory, std::string_view extension) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == extension) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

Tensor transposed(Tensor tensor) {
  std::swap(tensor.shape[0], tensor.shape[1]);
  std::swap(tensor.strides[0], tensor.strides[1]);
  return tensor;
}

// Every dtype, odd shapes and names, a tensor that is not contiguous and longer than one piece.
TensorMap every_kind() {
  TensorMap tensors = {{"scalar", patterned(DType::f32, {})},
                       {"empty", patterned(DType::bf16, {0, 7})},
                       {"deep", patterned(DType::i16, {1, 2, 1, 1, 3, 1})},
                       {"größe \"1\"\n", patterned(DType::f16, {2})},
                       {"", patterned(DType::u8, {3})},
                       {"transposed", transposed(patterned(DType::bf16, {300, 500}))}};
  for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32,
                            DType::i16, DType::i8, DType::u8, DType::boolean, DType::f8_e4m3, DType::f8_e5m2,
                            DType::f8_e8m0, DType::f8_e4m3fnuz, DType::f8_e5m2fnuz}) {
    tensors[concat("dtype ", name_of(dtype))] = patterned(dtype, {2, 3});
  }
  return tensors;
}

}  // namespace

TEST_CASE("torch: files of torch.save read as they were written") {
  const std::vector<fs::path> files = files_in(kGolden, ".pt");
  REQUIRE(files.size() >= 10);
  for (const fs::path& path : files) {
    CAPTURE(path);
    const std::string expected = read_file(fs::path(path).replace_extension(".json"));
    CHECK(dump_of(TorchFile::open(path)) == Json::parse(expected, path.string()));
  }
}

TEST_CASE("torch: stored tensors are views into the mapping, unpacked ones are not") {
  const TorchFile stored = TorchFile::open(kGolden / "dtypes.pt");
  for (const auto& [name, tensor] : stored.tensors) CHECK((tensor.give_back != nullptr));
  const TorchFile unpacked = TorchFile::open(kGolden / "deflated.pt");
  for (const auto& [name, tensor] : unpacked.tensors) CHECK((tensor.give_back == nullptr));
}

TEST_CASE("torch: shared storages stay shared") {
  const TorchFile file = TorchFile::open(kGolden / "shared.pt");
  CHECK(file.tensors.at("first").data == file.tensors.at("tied").data);
  const TorchFile unpacked = TorchFile::open(kGolden / "deflated.pt");
  CHECK(unpacked.tensors.at("first").data == unpacked.tensors.at("tied").data);
}

TEST_CASE("torch: written files read back, and are the same bytes every time") {
  const TemporaryDirectory directory;
  const TensorMap tensors = every_kind();
  write_torch_file(directory.path() / "a.pt", tensors);
  write_torch_file(directory.path() / "b.pt", tensors);
  CHECK(read_file(directory.path() / "a.pt") == read_file(directory.path() / "b.pt"));
  const TorchFile file = TorchFile::open(directory.path() / "a.pt");
  CHECK(dump_of(file) == dump_of({tensors, {}, {}}));
  for (const auto& entry : file.tensors) {
    CAPTURE(entry.first);
    const Tensor& tensor = entry.second;
    CHECK((tensor.give_back != nullptr));
    CHECK(reinterpret_cast<uintptr_t>(tensor.data) % 64 == 0);
    CHECK(tensor.strides == contiguous_strides(tensor.shape));
  }
}

TEST_CASE("torch: the smallest file") {
  const TemporaryDirectory directory;
  write_torch_file(directory.path() / "a.pt", {});
  CHECK(TorchFile::open(directory.path() / "a.pt").tensors.empty());
}

TEST_CASE("torch: a file may be written over while its tensors are in use") {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "a.pt";
  write_torch_file(path, {{"a", patterned(DType::f32, {100, 100})}});
  const Tensor view = TorchFile::open(path).tensors.at("a");
  write_torch_file(path, {{"b", view}});
  CHECK(hexadecimal(TorchFile::open(path).tensors.at("b")) == hexadecimal(patterned(DType::f32, {100, 100})));
}

TEST_CASE("torch: the writer refuses what no reader would take, and leaves no file") {
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "a.pt";
  Tensor elsewhere = patterned(DType::f32, {2});
  elsewhere.device.kind = Device::Kind::cuda;
  const Thrown device = thrown_by([&] { write_torch_file(path, {{"w", elsewhere}}); });
  CHECK(device.kind == ErrorKind::invalid_argument);
  CHECK(device.says("tensor 'w' is not in CPU memory"));
  const Thrown name = thrown_by([&] { write_torch_file(path, {{"w\xff", patterned(DType::f32, {2})}}); });
  CHECK(name.kind == ErrorKind::invalid_argument);
  CHECK(name.says("tensor 'w\\xff' has a name that is not UTF-8"));
  TensorMap many;
  for (int i = 0; i < 65533; ++i) many[std::to_string(i)] = patterned(DType::u8, {1});
  const Thrown count = thrown_by([&] { write_torch_file(path, many); });
  CHECK(count.kind == ErrorKind::unsupported);
  CHECK(count.says("65533 tensors are more than the 65532"));
  CHECK(fs::is_empty(directory.path()));
  many.erase("0");
  write_torch_file(path, many);
  CHECK(TorchFile::open(path).tensors.size() == 65532);
}

TEST_CASE("torch: a full disk is one clear error, wherever it is met, and leaves what was there") {
  const TemporaryDirectory directory;
  const fs::path path = directory.write("a.pt", "as it was");
  const TensorMap tensors = {{"a", patterned(DType::f32, {100})}, {"b", patterned(DType::f32, {50'000})}};
  for (const size_t bytes : {0, 10, 300, 1000, 150'000, 201'000}) {
    CAPTURE(bytes);
    const Thrown thrown = thrown_by([&] {
      const FileSizeLimit limit(bytes);
      write_torch_file(path, tensors);
    });
    CHECK(thrown.kind == ErrorKind::io);
    CHECK(thrown.says(concat("cannot write ", path.string(), ": ")));
    CHECK(thrown.says("free some space or write elsewhere"));
    CHECK(read_file(path) == "as it was");
    CHECK(std::distance(fs::directory_iterator(directory.path()), fs::directory_iterator()) == 1);
  }
}

// Driven by tests/parity/torch_parity.py, which sets the variable: dumps what it put there, and writes files.
TEST_CASE("parity: torch files") {
  const char* directory = std::getenv("BDH_PARITY_TORCH");
  if (directory == nullptr) return;
  for (const fs::path& path : files_in(directory, ".pt")) {
    Json dump;
    const Thrown thrown = thrown_by([&] { dump = dump_of(TorchFile::open(path)); });
    if (thrown.kind) dump.set("error", thrown.message);
    std::ofstream(fs::path(path).replace_extension(".found")) << dump.dump();
  }
  write_torch_file(fs::path(directory) / "ours.bin", every_kind());
  std::ofstream(fs::path(directory) / "ours.found") << dump_of({every_kind(), {}, {}}).dump();
}
