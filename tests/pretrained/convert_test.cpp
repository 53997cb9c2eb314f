// Weights files without a model around them: listed, and from PyTorch's form to safetensors.
#include "bdh/pretrained/convert.h"

#include <doctest/doctest.h>

#include "bdh/base/error.h"
#include "bdh/model/weights.h"
#include "tests/support/models.h"
#include "tests/support/temporary.h"
#include "tests/support/tensors.h"

namespace {

using bdh::TensorMap;
using bdh::test::same_bits;
using bdh::test::TemporaryDirectory;
using bdh::test::tiny_config;

}  // namespace

TEST_CASE("safetensors: tensors and metadata by a path alone") {
  TemporaryDirectory directory;
  bdh::test::write_model(directory.path());
  const auto tensors = bdh::list_tensors(directory / "model.safetensors");
  REQUIRE(tensors.size() == 6);
  CHECK(tensors.front().begin == 0);
  CHECK(bdh::read_metadata(directory / "model.safetensors").at("format_version") == "1");
  CHECK_THROWS_AS(bdh::list_tensors(directory / "config.json"), bdh::Error);
}

#ifdef BDH_TORCH
TEST_CASE("convert_torch_to_safetensors: the same bits under plain names") {
  TemporaryDirectory directory;
  const TensorMap tensors = bdh::random_state_dict(tiny_config(), 3);
  TensorMap prefixed;
  for (const auto& [name, tensor] : tensors) prefixed["_orig_mod." + name] = tensor;
  bdh::write_torch_file(directory / "model.bin", prefixed);
  bdh::convert_torch_to_safetensors(directory / "model.bin", directory / "model.safetensors");
  const auto file = bdh::SafetensorsFile::open(directory / "model.safetensors");
  CHECK(file.tensors().size() == tensors.size());
  for (const auto& [name, tensor] : tensors) CHECK(same_bits(file.tensor(name), tensor));
  CHECK_THROWS_AS(bdh::convert_torch_to_safetensors(directory / "model.bin", directory / "model.pt"),
                  bdh::Error);
}
#endif
